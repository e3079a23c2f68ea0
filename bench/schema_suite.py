#!/usr/bin/env python3
"""The JSON-Schema-Test-Suite as constraints of answers: whatever schema is taken, every answer must validate.

    bench/schema_suite.py --sight build --suite JSON-Schema-Test-Suite/tests/draft2020-12 [--answers 4] [--json OUT.json]

Each schema of the suite (https://github.com/json-schema-org/JSON-Schema-Test-Suite) goes to the daemon as a response_format. It
is either refused with a sentence, or the bundled model, which knows nothing of it, answers at a high temperature: so the text is
nearly random among what the form allows. The answers are checked by the jsonschema package with the schema as it was sent.
Prints every file with the schemas taken and refused, and each answer that does not validate. Needs pyzmq and jsonschema.
"""
import argparse
import collections
import glob
import json
import os
import sys
import tempfile

import jsonschema

import faults
import wire


def schemas_of(path):
    with open(path) as f:
        return [(case["description"], case["schema"], case["tests"]) for case in json.load(f)]


def ask(client, schema, seed, tokens):
    body = {"messages": [{"role": "user", "content": "Answer."}], "max_tokens": tokens, "temperature": 2, "top_p": 1, "top_k": 0,
            "seed": seed, "stream": False, "enable_thinking": False, "repetition_guard": False,
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}
    return list(client.events("ask", body))[-1][1]


def check(client, schema, args, tally):
    """Adds to the tally what came of one schema."""
    for seed in range(args.answers):
        try:
            end = ask(client, schema, seed, args.tokens)
        except wire.Refused as e:
            tally["refused"] += 1
            tally["why"][str(e)[:100]] += 1
            return
        if end["finish_reason"] == "length":
            tally["cut"] += 1
            continue
        tally["answers"] += 1
        try:
            jsonschema.Draft202012Validator(schema).validate(json.loads(end["answer"]))
        except Exception as e:
            tally["wrong"].append(f"{json.dumps(schema)[:200]}: {end['answer'][:100]!r}: {str(e).splitlines()[0][:120]}")
    tally["taken"] += 1


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sight", required=True)
    p.add_argument("--suite", required=True)
    p.add_argument("--answers", type=int, default=4, help="of each schema")
    p.add_argument("--tokens", type=int, default=400, help="of an answer; what is cut there is not checked")
    p.add_argument("--json")
    args = p.parse_args()
    args.model, results, wrong = None, {}, 0
    with tempfile.TemporaryDirectory(prefix="sight-schemas-") as folder:
        d = faults.Daemon(args, folder)
        d.until_served()
        client = d.connect(120)
        for path in sorted(glob.glob(os.path.join(args.suite, "*.json")) + glob.glob(os.path.join(args.suite, "optional/format/*.json"))):
            tally = {"taken": 0, "refused": 0, "answers": 0, "cut": 0, "wrong": [], "why": collections.Counter()}
            for _, schema, _ in schemas_of(path):
                check(client, schema, args, tally)
            name = os.path.relpath(path, args.suite)
            results[name] = tally
            wrong += len(tally["wrong"])
            print(f"{name}: {tally['taken']} schemas taken, {tally['refused']} refused; {tally['answers']} answers, {tally['cut']} cut, "
                  f"{len(tally['wrong'])} wrong", flush=True)
            for line in tally["wrong"][:5]:
                print("  " + line)
        code = d.stop()
    total = {k: sum(t[k] for t in results.values()) for k in ("taken", "refused", "answers", "cut")}
    print(f"in all: {total['taken']} schemas taken, {total['refused']} refused, {total['answers']} answers, {total['cut']} cut, {wrong} wrong; "
          f"the daemon ended with {code}")
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"total": total, "wrong": wrong, "files": results}, f, indent=1)
    sys.exit(wrong > 0 or code != 0)


if __name__ == "__main__":
    main()
