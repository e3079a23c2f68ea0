"""Renders every template of template_cases.json again with jinja2, set up as transformers sets it up for
chat templates, and writes what came out. To add a case, add an entry with its "template" and run this.

usage: make_template_cases.py
needs: transformers jinja2 (PyPI)
"""
import copy
import json
from pathlib import Path

from transformers.utils.chat_template_utils import _compile_jinja_template

path = Path(__file__).with_name("template_cases.json")
data = json.loads(path.read_text())
for case in data["cases"]:
    case["out"] = _compile_jinja_template(case["template"]).render(**copy.deepcopy(data["variables"]))
lines = ",\n".join("  " + json.dumps({"template": c["template"], "out": c["out"]}) for c in data["cases"])
path.write_text('{"variables": %s,\n "cases": [\n%s\n]}\n' % (json.dumps(data["variables"]), lines))
