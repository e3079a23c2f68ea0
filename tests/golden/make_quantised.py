#!/usr/bin/env python3
"""Makes the cases of quantised safetensors forms: a few matrices of golden/hybrid in each form that
is published, with the rows that the form's own library makes of them.

usage: make_quantised.py GOLDEN [CORPUS]    (writes GOLDEN/quantised/CASE/, or corners of these
                                            matrices as inputs of the fuzzer into CORPUS)
needs: torch safetensors compressed-tensors auto-round (PyPI); AutoAWQ's awq/utils/packing_utils.py,
       whose path the environment's AWQ_PACKING names (its package needs a GPU to be imported)

CASE/config.json       the quantization_config
CASE/weights.safetensors  the matrices' parts, as they are published
CASE/expected.safetensors every seventh row of each matrix in float32, by published name

Expected values are computed with scales in float32: libraries round to the scales' own type at the
end, which is no property of the stored numbers.
"""
import importlib.util
import json
import math
import os
import sys
from pathlib import Path

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import dequantize
from compressed_tensors.quantization.utils import calculate_qparams
from compressed_tensors.compressors.nvfp4.helpers import (pack_fp4_to_uint8,
                                                          unpack_fp4_from_uint8)
from safetensors import safe_open
from safetensors.torch import save, save_file

TEXT = "model.language_model.layers.3."
DOWN, KEY = TEXT + "mlp.down_proj", TEXT + "self_attn.k_proj"   # [64, 160], [64, 64]
SMALL = "model.language_model.layers.1.linear_attn.in_proj_a"    # [4, 64]
GATE = TEXT + "mlp.gate_proj"                                    # [160, 64]
E4M3 = torch.float8_e4m3fn


def write(out, name, config, parts, expected):
    if len(sys.argv) > 2:
        text = json.dumps({"quantization_config": config}).encode()
        tensors = save({k: v.contiguous() for k, v in parts.items()})
        (out / name).write_bytes(text + b"\n--\n" + tensors)
        return
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file({k: v.contiguous() for k, v in parts.items()}, folder / "weights.safetensors")
    save_file({f"{k}.weight": v.float()[::7].contiguous() for k, v in expected.items()},
              folder / "expected.safetensors")


def under(module, parts):
    return {f"{module}.{k}": v for k, v in parts.items()}


# ---- compressed-tensors ----

def qparams(w, args):
    if args.strategy == "tensor":
        lo, hi = w.min().reshape(1), w.max().reshape(1)
    elif args.strategy == "channel":
        lo, hi = w.amin(1, keepdim=True), w.amax(1, keepdim=True)
    elif args.strategy == "block":
        r, c = args.block_structure
        m, k = w.shape
        pad = torch.zeros(math.ceil(m / r) * r, math.ceil(k / c) * c)
        pad[:m, :k] = w
        b = pad.reshape(pad.shape[0] // r, r, pad.shape[1] // c, c)
        lo, hi = b.amin((1, 3)), b.amax((1, 3))
    else:
        g = w.reshape(w.shape[0], -1, args.group_size)
        lo, hi = g.amin(2), g.amax(2)
    return lo, hi


def compressed(w, fmt, weights, scale_dtype=torch.bfloat16):
    """The parts of one matrix, and the matrix that they stand for."""
    args = QuantizationArgs(**weights)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    compressor = BaseCompressor.get_value_from_registry(fmt)
    lo, hi = qparams(w, args)
    state = {"weight": w}
    if fmt == "nvfp4-pack-quantized":
        total = w.abs().max()
        glob = (448.0 * 6.0 / total).reshape(1).float()
        scale, _ = calculate_qparams(lo, hi, args, global_scale=glob)
        state |= {"weight_scale": scale, "weight_global_scale": glob}
    else:
        scale, zero = calculate_qparams(lo, hi, args)
        if fmt != "mxfp4-pack-quantized":
            scale = scale.to(scale_dtype)
        state |= {"weight_scale": scale}
        if not args.symmetric:
            state |= {"weight_zero_point": zero}
    parts = compressor.compress(dict(state), scheme)
    loaded = dict(parts)
    if "fp4" in fmt:  # its own decompress works in bfloat16
        scale = compressor._decompress_scale(parts["weight_scale"], torch.float32)
        codes = unpack_fp4_from_uint8(parts["weight_packed"], *w.shape, dtype=torch.float32)
        back = dequantize(x_q=codes, scale=scale, args=args, dtype=torch.float32,
                          global_scale=parts.get("weight_global_scale"))
        return parts, back
    if loaded["weight_scale"].dtype in (torch.bfloat16, torch.float16):
        loaded["weight_scale"] = loaded["weight_scale"].float()
    back = compressor.decompress(loaded, scheme)["weight"]
    return parts, back


def compressed_config(fmt, groups, **more):
    return {"quant_method": "compressed-tensors", "format": fmt, "quantization_status": "compressed",
            "config_groups": groups, "ignore": ["lm_head", "re:.*visual.*"], "kv_cache_scheme": None,
            "global_compression_ratio": None, **more}


def compressed_cases(out, weights):
    f8 = {"num_bits": 8, "type": "float", "symmetric": True}
    i4 = {"num_bits": 4, "type": "int", "symmetric": True}
    i8 = {"num_bits": 8, "type": "int", "symmetric": True}
    asym = {"symmetric": False}
    cases = {
        "ct-fp8-tensor": ("float-quantized", f8 | {"strategy": "tensor"}),
        "ct-fp8-channel": ("float-quantized", f8 | {"strategy": "channel"}),
        "ct-fp8-block": ("float-quantized", f8 | {"strategy": "block", "block_structure": [128, 128]}),
        "ct-int4": ("pack-quantized", i4 | {"strategy": "group", "group_size": 32}),
        "ct-int4-asym": ("pack-quantized", i4 | asym | {"strategy": "group", "group_size": 32}),
        "ct-int4-channel": ("pack-quantized", i4 | {"strategy": "channel"}),
        "ct-int8-pack-asym": ("pack-quantized", i8 | asym | {"strategy": "channel"}),
        "ct-int8": ("int-quantized", i8 | {"strategy": "channel"}),
        "ct-int8-asym": ("int-quantized", i8 | asym | {"strategy": "channel"}),
        "ct-nvfp4": ("nvfp4-pack-quantized", {"num_bits": 4, "type": "float", "symmetric": True,
                                               "strategy": "tensor_group", "group_size": 16}),
        "ct-mxfp4": ("mxfp4-pack-quantized", {"num_bits": 4, "type": "float", "symmetric": True,
                                               "strategy": "group", "group_size": 32}),
    }
    for name, (fmt, args) in cases.items():
        parts, expected = {}, {}
        for module in (DOWN, KEY):
            dtype = torch.float16 if name == "ct-int4" else torch.bfloat16
            p, w = compressed(weights[module], fmt, args, dtype)
            parts |= under(module, p)
            expected[module] = w
        groups = {"group_0": {"targets": ["Linear"], "weights": args, "input_activations": None}}
        write(out, name, compressed_config(fmt, groups), parts, expected)

    nv, f8c = cases["ct-nvfp4"], cases["ct-fp8-channel"]
    parts, expected = {}, {}
    for module, (fmt, args) in ((DOWN, nv), (KEY, f8c)):
        p, w = compressed(weights[module], fmt, args)
        parts |= under(module, p)
        expected[module] = w
    parts[KEY + ".input_scale"] = torch.ones(1)
    parts[DOWN + ".input_global_scale"] = torch.ones(1)
    groups = {"group_0": {"targets": [r"re:.*mlp\.(gate|up|down)_proj$"], "weights": nv[1],
                          "format": nv[0]},
              "group_1": {"targets": [KEY.replace("model.language_model", "model")],
                          "weights": f8c[1], "format": f8c[0]}}
    write(out, "ct-mixed", compressed_config("mixed-precision", groups), parts, expected)


# ---- FP8 as Qwen publishes it, ModelOpt ----

def fp8_blocks(w, size):
    m, k = w.shape
    down, across = math.ceil(m / size), math.ceil(k / size)
    scale = torch.stack([torch.stack([w[i * size:(i + 1) * size, j * size:(j + 1) * size].abs().max()
                                      for j in range(across)]) for i in range(down)]) / 448
    return scale.to(torch.bfloat16)


def qwen_fp8(out, weights):
    parts, expected = {}, {}
    for module in (DOWN, GATE, SMALL):
        w = weights[module]
        scale = fp8_blocks(w, 128)
        big = scale.float().repeat_interleave(128, 0)[:w.shape[0]].repeat_interleave(128, 1)
        big = big[:, :w.shape[1]]
        codes = (w / big).to(E4M3)
        parts |= under(module, {"weight": codes, "weight_scale_inv": scale})
        expected[module] = codes.float() * big
    config = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3",
              "weight_block_size": [128, 128], "modules_to_not_convert": ["lm_head", "visual"]}
    write(out, "qwen-fp8", config, parts, expected)


def modelopt(out, weights):
    w = weights[DOWN]
    scale_2 = (w.abs().max() / (6 * 448)).float()
    blocks = w.reshape(w.shape[0], -1, 16).abs().amax(2)
    scale = (blocks / 6 / scale_2).to(E4M3)
    whole = (scale.float() * scale_2).repeat_interleave(16, 1)
    values = torch.tensor([0, .5, 1, 1.5, 2, 3, 4, 6])
    near = values[((w / whole).abs().unsqueeze(-1) - values).abs().argmin(-1)] * (w / whole).sign()
    packed = pack_fp4_to_uint8(near)
    parts = under(DOWN, {"weight": packed, "weight_scale": scale, "weight_scale_2": scale_2,
                         "input_scale": torch.tensor(0.5)})
    expected = {DOWN: unpack_fp4_from_uint8(packed, *w.shape).float() * whole}
    k = weights[KEY]
    scale = (k.abs().max() / 448).float()
    codes = (k / scale).to(E4M3)
    parts |= under(KEY, {"weight": codes, "weight_scale": scale, "input_scale": torch.tensor(0.25),
                         "k_scale": torch.tensor(1.0)})
    parts[TEXT + "self_attn.v_proj.v_scale"] = torch.tensor(1.0)
    expected[KEY] = codes.float() * scale
    layers = {DOWN: {"quant_algo": "NVFP4", "group_size": 16}, KEY: {"quant_algo": "FP8"}}
    config = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers,
              "kv_cache_quant_algo": "FP8", "ignore": ["lm_head", "model.visual*", "*in_proj_a"]}
    write(out, "modelopt-mixed", config, parts, expected)


# ---- AWQ, GPTQ, AutoRound ----

def grouped(w, bits, group, sym):
    """Scales [M, groups] in float16 and zero points."""
    top = 2 ** bits - 1
    g = w.reshape(w.shape[0], -1, group)
    lo, hi = g.amin(2).clamp(max=0), g.amax(2).clamp(min=0)
    if sym:
        scale = (torch.maximum(-lo, hi) * 2 / top).half()
        return scale, torch.full(scale.shape, 2 ** (bits - 1))
    scale = ((hi - lo) / top).half()
    return scale, (-lo / scale.float()).round().clamp(0, top).int()


def awq_parts(module_of, w, group, sym):
    scale, zero = grouped(w, 4, group, sym)
    codes = (w / scale.float().repeat_interleave(group, 1)).round().int() + zero.repeat_interleave(group, 1)
    codes = codes.clamp(0, 15).t()

    def pack(x):
        words = torch.zeros(x.shape[0], x.shape[1] // 8, dtype=torch.int64)
        for i, j in enumerate(module_of.AWQ_ORDER):
            words |= x[:, j::8].long() << (4 * i)
        return words.where(words < 2 ** 31, words - 2 ** 32).int()
    parts = {"qweight": pack(codes), "qzeros": pack(zero.t()), "scales": scale.t().contiguous()}
    back = module_of.dequantize_gemm(parts["qweight"], parts["qzeros"], parts["scales"].float(), 4, group)
    return parts, back.t()


def awq(out, weights):
    spec = importlib.util.spec_from_file_location("packing", os.environ["AWQ_PACKING"])
    packing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(packing)
    for name, sym, config in (
            ("awq", False, {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm",
                            "zero_point": True, "modules_to_not_convert": ["visual"]}),
            ("auto-round-awq", True, {"quant_method": "auto-round", "bits": 4, "group_size": 32,
                                      "sym": True, "data_type": "int",
                                      "packing_format": "auto_round:auto_awq"})):
        parts, expected = {}, {}
        for module in (DOWN, KEY):
            p, w = awq_parts(packing, weights[module], 32, sym)
            parts |= under(module, p)
            expected[module] = w
        write(out, name, config, parts, expected)


def gptq_parts(cls, w, bits, group, sym):
    """By AutoRound's own packer; its forward pass on ones of the identity gives the matrix."""
    size = group if group > 0 else w.shape[1]
    scale, zero = grouped(w, bits, size, sym)
    linear = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
    linear.weight.data = w.clone()
    q = cls(bits, size, w.shape[1], w.shape[0], False)
    q.device = "cpu"
    q.pack(linear, scale.float(), zero.float(), None, "cpu")
    q.scales = scale.t().contiguous().float()  # rounding of the product is no part of the form
    if hasattr(q, "dequant_dtype"):
        q.dequant_dtype = torch.int32
    back = q(torch.eye(w.shape[1]))
    parts = {"qweight": q.qweight, "qzeros": q.qzeros, "scales": scale.t().contiguous()}
    return parts, back.t()


def gptq(out, weights):
    from auto_round_extension.torch.qlinear_torch import QuantLinear as AsStored
    from auto_round_extension.torch.qlinear_torch_zp import QuantLinear as LessOne
    common = {"quant_method": "gptq", "desc_act": False, "checkpoint_format": "gptq"}
    for name, cls, bits, group, sym, config in (
            ("gptq", LessOne, 4, 32, True, common),
            ("gptq-asym", LessOne, 4, 32, False, common),
            ("gptq-v2-int8", AsStored, 8, -1, False, common | {"checkpoint_format": "gptq_v2"}),
            ("auto-round-gptq", LessOne, 8, 32, True,
             {"quant_method": "auto-round", "packing_format": "auto_round:auto_gptq", "data_type": "int"}),
            ("auto-round", AsStored, 4, 32, False,
             {"quant_method": "auto-round", "packing_format": "auto_round", "data_type": "int"})):
        parts, expected = {}, {}
        for module in (DOWN, KEY):
            p, w = gptq_parts(cls, weights[module], bits, group, sym)
            if name == "gptq":
                p["g_idx"] = torch.arange(weights[module].shape[1], dtype=torch.int32) // group
            parts |= under(module, p)
            expected[module] = w
        write(out, name, config | {"bits": bits, "group_size": group, "sym": sym}, parts, expected)


def main():
    golden = Path(sys.argv[1])
    out = golden / "quantised"
    weights = {}
    with safe_open(golden / "hybrid/model/model.safetensors", "pt") as f:
        for module in (DOWN, KEY, GATE, SMALL):
            # Lopsided, so that zero points are not in the middle.
            weights[module] = f.get_tensor(module + ".weight").float()
            weights[module] += weights[module].abs().mean() / 4
    if len(sys.argv) > 2:
        out = Path(sys.argv[2])
        out.mkdir(parents=True, exist_ok=True)
        weights = {k: w[:32, :32 if k == KEY else 64].clone() for k, w in weights.items()}
    torch.manual_seed(0)
    with torch.no_grad():
        compressed_cases(out, weights)
        qwen_fp8(out, weights)
        modelopt(out, weights)
        awq(out, weights)
        gptq(out, weights)


main()
