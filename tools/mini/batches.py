"""Scenes to arrays: patches, the prompt up to the question, and the questions that continue from it.

All scenes of a batch share a task and its times, so that their prompts have equal lengths. The prompt is that of
chat_template.jinja with one medium, one question and an empty thinking block.
"""
import random
from dataclasses import dataclass

import numpy as np

from scenes import draw, seed_of
from scenes.clips import pair_times
from vocabulary import casual

AFTER_QUESTION = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
EARLIER_ANSWER = "<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>\n<|im_start|>user\n"
CELL_ROWS, CELL_COLUMNS = 2, 4  # character cells of a 16x16 patch, for the auxiliary loss
LONG_ANSWERS = ("describe", "read", "json")


@dataclass
class Batch:
    pixels: np.ndarray      # uint8 [B, pairs, patches, 1536]
    grid: tuple             # (pairs, patch rows, patch columns)
    prompt: np.ndarray      # [P] ids before the question
    positions: np.ndarray   # [3, P]
    visual: np.ndarray      # indices into the prompt where features stand
    next_position: int
    ids: np.ndarray         # [B * K, T] question, answer, padding
    labels: np.ndarray      # [B * K, T] the next token where it is the answer's, else -100
    per_scene: int          # K
    is_clip: bool
    questions: list         # [B * K] Question or None
    objects: np.ndarray     # [B, pairs, patches, 3] colour, shape, direction of the object there; 0: none
    characters: np.ndarray  # [B, 1, patches, cells] the character there; None for scenes without text


def patch_rows(frames, is_clip):
    """uint8 [F, H, W, 3] -> [pairs, patches, 3 * 2 * 16 * 16], 2x2 blocks of patches together. A picture is its own partner."""
    if not is_clip:
        frames = np.repeat(frames, 2, 0)
    n, height, width, _ = frames.shape
    x = frames.reshape(n // 2, 2, height // 32, 2, 16, width // 32, 2, 16, 3)
    return np.ascontiguousarray(x.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)).reshape(n // 2, height * width // 256, 1536)


def _block_order(a):
    """[pairs, rows, columns, ...] -> [pairs, patches, values] in the order of patch_rows."""
    t, rows, columns = a.shape[:3]
    a = a.reshape(t, rows // 2, 2, columns // 2, 2, -1)
    return a.transpose(0, 1, 3, 2, 4, 5).reshape(t, rows * columns, -1)


def patch_labels(scene, pairs, width, height):
    """What each patch shows: (objects, characters), from the scene's marks."""
    rows, columns = height // 16, width // 16
    objects = np.zeros((pairs, rows, columns, 3), np.int64)
    characters = np.zeros((pairs, rows, columns, CELL_ROWS, CELL_COLUMNS), np.int64)
    y_of, x_of = np.mgrid[0:rows, 0:columns] * 16 + 8
    for pair, x, y, radius, *ids in scene.objects:
        near = max(8, radius * 0.9)
        objects[pair][(np.abs(x_of - x) < near) & (np.abs(y_of - y) < near)] = ids
    for pair, x, y, character in scene.characters:
        i, j = int(y // (16 // CELL_ROWS)), int(x // (16 // CELL_COLUMNS))
        if 0 <= i < rows * CELL_ROWS and 0 <= j < columns * CELL_COLUMNS:
            characters[pair, i // CELL_ROWS, j // CELL_COLUMNS, i % CELL_ROWS, j % CELL_COLUMNS] = character
    return _block_order(objects), _block_order(characters)


class Batcher:
    def __init__(self, tokenizer):
        self.tokenizer, self.cache = tokenizer, {}
        self.pads = {kind: tokenizer.token_to_id(f"<|{kind}_pad|>") for kind in ("image", "video")}
        self.start, self.end = (tokenizer.token_to_id(f"<|vision_{w}|>") for w in ("start", "end"))
        self.padding = tokenizer.token_to_id("<|endoftext|>")

    def encode(self, text):
        if text not in self.cache:
            if len(self.cache) > 50000:
                self.cache.clear()
            self.cache[text] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return self.cache[text]

    def prompt(self, task, times):
        """(ids, positions [3, n], next position) of everything before the question."""
        rows, columns = task.height // 32, task.width // 32
        ids, positions, at = [], [], 0

        def add_text(tokens):
            nonlocal at
            ids.extend(tokens)
            positions.append(np.tile(np.arange(len(tokens)) + at, (3, 1)))
            at += len(tokens)

        add_text(self.encode("<|im_start|>user\n"))
        for time in times if task.kind == "clip" else [None] * task.n_frames:
            add_text(([] if time is None else self.encode(f"<{time:.1f} seconds>")) + [self.start])
            y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
            ids.extend([self.pads["video" if task.kind == "clip" else "image"]] * (rows * columns))
            positions.append(np.stack([np.zeros(rows * columns, int), y.ravel(), x.ravel()]) + at)
            at += max(rows, columns)
            add_text([self.end])
        return np.asarray(ids), np.concatenate(positions, 1), at

    def _choose(self, rng, task, questions, per_scene, keep):
        if keep:
            questions = [q for q in questions if keep(q.kind)] or questions
        if task.kind == "document" and not keep:  # reading is asked of every document
            chosen = questions[:1] + rng.sample(questions[1:], min(per_scene - 1, len(questions) - 1))
        else:
            chosen = rng.sample(questions, min(per_scene, len(questions)))
        return chosen + [None] * (per_scene - len(chosen))

    def _turns(self, rng, q, as_typed):
        """(ids up to the answer, ids of the answer). Of an earlier turn only what was said is shown."""
        typed = (lambda text: casual(rng, text)) if as_typed else (lambda text: text)
        earlier = self.encode(typed(q.before[0]) + EARLIER_ANSWER.format(q.before[1])) if q.before else []
        return [*earlier, *self.encode(typed(q.text) + AFTER_QUESTION)], self.encode(q.answer + "<|im_end|>")

    def __call__(self, task, n_scenes, per_scene, seed, keep=None, as_typed=True):
        """A batch of its seed. keep: which kinds of question; as_typed: with people's small differences."""
        rng = random.Random(seed)
        times = pair_times(rng, task.n_frames) if task.kind == "clip" else None
        pixels, branches, asked, labels = [], [], [], []
        for _ in range(n_scenes):
            scene = draw(rng, task, times)
            pixels.append(patch_rows(scene.frames, task.kind == "clip"))
            labels.append(patch_labels(scene, len(pixels[-1]), task.width, task.height))
            for q in self._choose(rng, task, scene.questions, per_scene, keep):
                asked.append(q)
                branches.append(self._turns(rng, q, as_typed) if q else ([], []))
        longest = -(-max(len(q) + len(a) for q, a in branches) // 8) * 8
        ids = np.full((len(branches), longest), self.padding, np.int64)
        targets = np.full_like(ids, -100)
        for i, (q, a) in enumerate(branches):
            ids[i, :len(q) + len(a)] = [*q, *a]
            targets[i, len(q) - 1:len(q) - 1 + len(a)] = a
        prompt, positions, at = self.prompt(task, times)
        return Batch(np.stack(pixels), (len(pixels[0]), task.height // 16, task.width // 16), prompt, positions,
                     np.nonzero(np.isin(prompt, list(self.pads.values())))[0], at, ids, targets, per_scene, task.kind == "clip", asked,
                     np.stack([o for o, _ in labels]),
                     np.stack([c for _, c in labels]) if task.written else None)

    def for_training(self, task, n_scenes, per_scene, long, seed):
        """Long answers and short ones come in batches of their own: less padding."""
        if long:
            return self(task, 2 * n_scenes, 1, seed, keep=lambda kind: kind in LONG_ANSWERS)
        if task.kind == "document":
            per_scene = 2
        return self(task, n_scenes, per_scene, seed, keep=lambda kind: kind not in LONG_ANSWERS)


__all__ = ["Batch", "Batcher", "patch_rows", "seed_of"]
