#!/usr/bin/env python3
"""Measures sight beside torch and transformers on one GPU, the same made-up weights, in one run.

    bench/against_transformers.py --sight build [--shapes 0.8b,4b] [--device cuda:0] [--json OUT.json]

A checkpoint of each shape is made on the spot by transformers' own initialisation and read by both. bf16 on both sides; theirs
as from_pretrained gives it, launch by launch. Every number is the median of several; greater is better, but for
milliseconds.
"""
import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

# docs/MODEL.md: hidden, intermediate, layers, heads, kv, key heads, value heads; vision: depth, hidden, heads, intermediate; tied
SHAPES = {
    "tiny": (64, 128, 4, 2, 1, 2, 2, 2, 64, 2, 128, True),
    "0.8b": (1024, 3584, 24, 8, 2, 16, 16, 12, 768, 12, 3072, True),
    "2b": (2048, 6144, 24, 8, 2, 16, 16, 24, 1024, 16, 4096, True),
    "4b": (2560, 9216, 32, 16, 4, 16, 32, 24, 1024, 16, 4096, True),
    "9b": (4096, 12288, 32, 16, 4, 16, 32, 27, 1152, 16, 4304, False),
}
WORKS = "prefill_512,prefill_2048,prefill_8192,decode,batch8_decode,vision_1920x1080"
HERE = os.path.dirname(os.path.abspath(__file__))


def make_model(shape, device):
    import torch
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration
    hidden, inner, layers, heads, kv, keys, values, depth, wide, looks, vision_inner, tied = SHAPES[shape]
    text = dict(
        vocab_size=248320, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv, head_dim=256, linear_num_key_heads=keys,
        linear_num_value_heads=values, linear_key_head_dim=128, linear_value_head_dim=128, linear_conv_kernel_dim=4,
        max_position_embeddings=262144, tie_word_embeddings=tied, rms_norm_eps=1e-6, full_attention_interval=4,
        layer_types=["full_attention" if i % 4 == 3 else "linear_attention" for i in range(layers)], eos_token_id=248044,
        rope_parameters=dict(rope_type="default", rope_theta=10000000.0, partial_rotary_factor=0.25,
                             mrope_section=[11, 11, 10], mrope_interleaved=True))
    vision = dict(
        depth=depth, hidden_size=wide, num_heads=looks, intermediate_size=vision_inner, patch_size=16,
        temporal_patch_size=2, spatial_merge_size=2, out_hidden_size=hidden, num_position_embeddings=2304, in_channels=3,
        hidden_act="gelu_pytorch_tanh", deepstack_visual_indexes=[])
    torch.manual_seed(0)
    config = Qwen3_5Config(text_config=text, vision_config=vision, tie_word_embeddings=tied)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = Qwen3_5ForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    return model.to(device=device, dtype=torch.bfloat16).eval()


def save(model, folder):
    """A checkpoint folder that sight opens; its words are the bundled model's, which no number here depends on."""
    model.save_pretrained(folder, max_shard_size="200GB")
    path = os.path.join(folder, "config.json")
    with open(path) as f:
        config = json.load(f)
    config["text_config"]["full_attention_interval"] = 4
    config["vision_config"]["deepstack_visual_indexes"] = []
    with open(path, "w") as f:
        json.dump(config, f)
    mini = os.path.join(HERE, "..", "models", "mini")
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "video_preprocessor_config.json",
                 "chat_template.jinja"):
        shutil.copy(os.path.join(mini, name), folder)


class Clock:
    def __init__(self, device):
        import torch
        self.wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None

    def seconds(self, work, rounds, warm=2):
        times = []
        for i in range(warm + rounds):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            if i >= warm:
                times.append(time.perf_counter() - start)
        return statistics.median(times)


def theirs(model, device, quick):
    import torch
    clock, out = Clock(device), {}
    draw = torch.Generator().manual_seed(0)

    def prompt(rows, n):
        return torch.randint(0, 150000, (rows, n), generator=draw).to(device)

    with torch.inference_mode():
        for n in (512,) if quick else (512, 2048, 8192):
            ids = prompt(1, n)
            out[f"prefill_{n}_tok_s"] = n / clock.seconds(
                lambda: model(input_ids=ids, use_cache=True, logits_to_keep=1), 1 if quick else 5)
        for rows, name in ((1, "decode_tok_s"), (8, "batch8_decode_tok_s")):
            seen = model(input_ids=prompt(rows, 16), use_cache=True, logits_to_keep=1)
            state = {"past": seen.past_key_values, "token": seen.logits[:, -1].argmax(-1, keepdim=True)}

            def step():
                o = model(input_ids=state["token"], past_key_values=state["past"], use_cache=True, logits_to_keep=1)
                state["token"] = o.logits[:, -1].argmax(-1, keepdim=True)

            out[name] = rows / clock.seconds(step, 2 if quick else 32, 1 if quick else 8)
        if not quick:  # 1920 x 1080 becomes 120 x 68 patches
            patches = torch.randn(120 * 68, 3 * 2 * 16 * 16, generator=draw).to(device, torch.bfloat16)
            grid = torch.tensor([[1, 68, 120]], device=device)
            out["vision_1920x1080_ms"] = 1e3 * clock.seconds(lambda: model.model.visual(patches, grid_thw=grid), 5)
    return out


def ours(args, folder):
    command = [os.path.join(args.sight, "sight"), "bench", "--device", args.device, "--model", folder, "--weights", "bf16",
               "--only", "prefill_512,decode" if args.quick else WORKS, "--json"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        return {"failed": result.stderr.strip()[-500:]}
    return json.loads(result.stdout)


def compare(args, shape):
    import torch
    folder = tempfile.mkdtemp(prefix="sight-shape-")
    try:
        model = make_model(shape, args.device.replace("auto", "cuda:0"))
        save(model, folder)
        other = theirs(model, args.device, args.quick)
        del model
        if args.device.startswith("cuda"):
            torch.cuda.empty_cache()
        mine = ours(args, folder)
    finally:
        shutil.rmtree(folder)
    ratio = {}
    for name, value in other.items():
        if mine.get(name):
            ratio[name] = value / mine[name] if name.endswith("_ms") else mine[name] / value
    return {"sight": mine, "transformers": other, "times_faster": ratio}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sight", required=True, help="build folder")
    parser.add_argument("--shapes", default="0.8b,4b")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--quick", action="store_true", help="only to see that it runs")
    parser.add_argument("--json", help="also write the numbers here")
    args = parser.parse_args()
    import torch
    import transformers
    numbers = {"torch": torch.__version__, "transformers": transformers.__version__,
               # Without these it computes the linear layers step by step in torch.
               "has": {name: importlib.util.find_spec(name) is not None for name in ("causal_conv1d", "fla")}}
    for shape in args.shapes.split(","):
        numbers[shape] = compare(args, shape)
    text = json.dumps(numbers, indent=1)
    print(text)
    if args.json:
        with open(args.json, "w") as f:
            f.write(text)


if __name__ == "__main__":
    sys.exit(main())
