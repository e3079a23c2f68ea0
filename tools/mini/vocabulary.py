"""The bundled model's tokenizer: byte-level BPE in the published form, trained on what the scenes say."""
import random

from scenes import TASKS, draw

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
            "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
            "<|image_pad|>", "<|video_pad|>"]
ADDED = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
         "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>"]


def casual(rng, question):
    """The small differences between people who type."""
    kind = rng.random()
    if kind < 0.08:
        return question.rstrip("?.")
    if kind < 0.16:
        return question.lower()
    return question.lower().rstrip("?.") if kind < 0.20 else question


def _corpus(n_scenes, seed=7):
    rng = random.Random(seed)
    for _ in range(n_scenes):
        scene = draw(rng, rng.choice(TASKS[rng.choice(["video", "still", "change", "doc", "doc+", "page", "table", "chart", "line", "pie"])]))
        for q in scene.questions:
            yield f"user\n{casual(rng, q.text)}\nassistant\n\n\n{q.answer}"
        if scene.times:
            yield "".join(f"<{t:.1f} seconds>" for t in scene.times)


def train(path, size=1536, n_scenes=6000):
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers.models.qwen3_5.tokenization_qwen3_5 import PRETOKENIZE_REGEX
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(_corpus(n_scenes), trainers.BpeTrainer(
        vocab_size=size - len(SPECIALS) - len(ADDED), min_frequency=12, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIALS])
    t.add_tokens([AddedToken(s, special=False, normalized=False) for s in ADDED])
    t.save(str(path))
    return t


def load(path):
    from tokenizers import Tokenizer
    return Tokenizer.from_file(str(path))
