#!/usr/bin/env python3
"""Makes the adapters of golden/lora, and what golden/hybrid's picture case gives with them.

usage: make_lora.py GOLDEN        (writes GOLDEN/lora/)
needs: torch transformers peft safetensors (PyPI)

first/   rank 4, alpha 6, float16, other ranks and alphas for some modules, on text and vision
second/  rank 3, rsLoRA, bfloat16, on the text model alone; given with scale 0.5
expected.safetensors   the logits of case image-40x40 with both, and with the first alone, in float32
"""
import json
import math
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Qwen3_5ForConditionalGeneration

CONFIGS = {
    "first": LoraConfig(
        r=4, lora_alpha=6, rank_pattern={"mlp.down_proj": 2}, alpha_pattern={r"layers\.3\..*": 9},
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
                        "in_proj_qkv", "in_proj_z", "out_proj", "qkv", "linear_fc2"]),
    "second": LoraConfig(r=3, lora_alpha=5, use_rslora=True,
                         target_modules=r".*language_model.*\.(q_proj|up_proj|in_proj_a)"),
}


def base(golden):
    return Qwen3_5ForConditionalGeneration.from_pretrained(golden / "hybrid/model", dtype=torch.float32)


def make(golden, name, config):
    folder = golden / "lora" / name
    model = get_peft_model(base(golden), config)
    torch.manual_seed(len(name))
    for n, p in model.named_parameters():
        if "lora_" in n:
            p.data = torch.randn_like(p) * 0.08
            p.data = p.data.to(torch.bfloat16 if name == "second" else torch.float16)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    saved = json.loads(path.read_text())
    saved["base_model_name_or_path"] = "hybrid"
    if isinstance(saved["target_modules"], list):
        saved["target_modules"].sort()
    path.write_text(json.dumps(saved, indent=1, sort_keys=True) + "\n")


def run(golden, scales):
    case = load_file(golden / "hybrid/cases/image-40x40/expected.safetensors")
    model = base(golden)
    for name, scale in scales.items():
        model = PeftModel.from_pretrained(model, golden / "lora" / name)
        for m in model.modules():
            if hasattr(m, "lora_A"):
                for key in m.scaling:
                    m.scaling[key] *= scale
        model = model.merge_and_unload()
    ids = case["input_ids"].long().reshape(1, -1)
    pixels = case["pixel_values_u8"].float() / 127.5 - 1
    kinds = (ids == model.config.image_token_id).int()
    with torch.no_grad():
        logits = model(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids),
                       image_grid_thw=case["image_grid_thw"].long(), mm_token_type_ids=kinds).logits[0]
    return logits[case["logit_positions"].long()], case


def main():
    golden = Path(sys.argv[1])
    plain, case = run(golden, {})
    assert (plain - case["logits"]).abs().max() < 1e-4, (plain - case["logits"]).abs().max()
    for name, config in CONFIGS.items():
        make(golden, name, config)
    both, _ = run(golden, {"first": 1, "second": 0.5})
    first, _ = run(golden, {"first": 1})
    print("moved by", (both - plain).abs().max().item(), (first - plain).abs().max().item())
    save_file({"logit_positions": case["logit_positions"], "both": both, "first": first},
              golden / "lora" / "expected.safetensors")


main()
