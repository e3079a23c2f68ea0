#!/usr/bin/env python3
"""A training checkpoint to a folder as published checkpoints are laid out.   usage: export.py runs/NAME/last.pt OUT"""
import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

import vocabulary
from arithmetic import EPS
from model import CONFIGS, ROPE, Model

HERE = Path(__file__).parent
BUNDLED = HERE.parent.parent / "models" / "mini"
PATCHES = dict(patch_size=16, temporal_patch_size=2, merge_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3)


def vocabulary_size(tokenizer):
    return -(-tokenizer.get_vocab_size() // 32) * 32  # padded beyond the tokens, as published embeddings are


def config_of(model, tokenizer, drafts=False):
    token, text = tokenizer.token_to_id, model.config["text"]
    return dict(
        architectures=["Qwen3_5ForConditionalGeneration"], model_type="qwen3_5", tie_word_embeddings=True,
        image_token_id=token("<|image_pad|>"), video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"), vision_end_token_id=token("<|vision_end|>"),
        text_config=dict(model_type="qwen3_5_text", vocab_size=model.vocab, **text, layer_types=model.kinds,
                         mtp_num_hidden_layers=int(drafts), mtp_use_dedicated_embeddings=False,
                         max_position_embeddings=4096, rms_norm_eps=EPS, hidden_act="silu", attention_bias=False,
                         rope_parameters=ROPE, tie_word_embeddings=True, eos_token_id=token("<|im_end|>")),
        vision_config=dict(model_type="qwen3_5_vision", **model.config["vision"], patch_size=16, temporal_patch_size=2,
                           spatial_merge_size=2, out_hidden_size=text["hidden_size"], hidden_act="gelu_pytorch_tanh",
                           in_channels=3, deepstack_visual_indexes=list(model.config["deepstack"])))


def export(model, tokenizer, out, drafts=None):
    """drafts: the weights of the block that drafts.py trained, by name."""
    out.mkdir(parents=True, exist_ok=True)
    token = tokenizer.token_to_id
    weights = {"model." + name: p.detach().to(torch.bfloat16).contiguous().clone()
               for name, p in model.state_dict().items() if not name.startswith("reader.")}
    weights.update({"mtp." + name: p.to(torch.bfloat16).contiguous() for name, p in (drafts or {}).items()})
    save_file(weights, str(out / "model.safetensors"), metadata={"format": "pt"})
    tokenizer.save(str(out / "tokenizer.json"))

    def write(name, value):
        (out / name).write_text(json.dumps(value, indent=1) + "\n")

    write("config.json", config_of(model, tokenizer, drafts is not None))
    write("tokenizer_config.json", dict(eos_token="<|im_end|>", pad_token="<|endoftext|>",
                                        tokenizer_class="Qwen2Tokenizer", model_max_length=4096))
    write("generation_config.json", dict(eos_token_id=[token("<|im_end|>"), token("<|endoftext|>")],
                                         pad_token_id=token("<|endoftext|>"), do_sample=False))
    # Budgets near the sizes it was trained on.
    write("preprocessor_config.json", dict(size=dict(shortest_edge=64 * 32, longest_edge=256 * 256), **PATCHES,
                                           image_processor_type="Qwen2VLImageProcessorFast",
                                           processor_class="Qwen3VLProcessor"))
    write("video_preprocessor_config.json", dict(size=dict(shortest_edge=4096, longest_edge=12 * 96 * 96), fps=2,
                                                 min_frames=4, max_frames=12, **PATCHES,
                                                 video_processor_type="Qwen3VLVideoProcessor",
                                                 processor_class="Qwen3VLProcessor"))
    template = BUNDLED / "chat_template.jinja"
    if template.exists() and out.resolve() != BUNDLED.resolve():
        shutil.copy(template, out)


def load_training(path):
    saved = torch.load(path, map_location="cpu", weights_only=True)
    tokenizer = vocabulary.load(Path(path).parent / "tokenizer.json")
    model = Model(CONFIGS[saved["config"]], vocabulary_size(tokenizer))
    model.load_state_dict(saved["model"])
    return model, tokenizer


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    saved = torch.load(arguments.checkpoint, map_location="cpu", weights_only=True)
    export(*load_training(arguments.checkpoint), arguments.out, saved.get("drafts"))
