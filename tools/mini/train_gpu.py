#!/usr/bin/env python3
"""Trains the bundled model on one GPU, while the machine's processor cores draw the scenes.

    train_gpu.py NAME --minutes 18 [--from runs/OLD/last.pt] [--config medium] [--out FOLDER]

A batch is several hundred scenes of one task, so that the GPU's small kernels have work; a step takes a few batches of different tasks.
Writes what train.py writes (last.pt, log.jsonl, loss.png) to runs/NAME, or to --out, in pieces of 15 MiB when asked for (--pieces), to be put
together again by `cat last.pt.* > last.pt`. Anything it has saved can be gone on from, here or by train.py: where one command may only run
for ten minutes, `--minutes 8.5 --hold 1` and then `--minutes 8.5 --hold 0.2 --from last.pt`. Fonts are looked for where Debian has them, or in the
folder that SCENE_FONTS names.
"""
import argparse
import json
import os
import queue
import random
import sys
import time
from pathlib import Path

import torch

import vocabulary
from batches import Batcher, seed_of
from model import CONFIGS, loss_of
from optimiser import Optimiser
from scenes import TASKS
from train import begin_model, draw_long, exact_match, mixture, plot, prepare_folder, rate_at

HERE = Path(__file__).parent
PIECE = 15 << 20
PATCHES = 250_000  # about so many patches and answer tokens in a batch


def batch_size(task, long, base):
    """Scenes of a batch, such that batches of all tasks take about as long."""
    pairs = task.n_frames // 2 if task.kind == "clip" else task.n_frames
    patches = pairs * task.width * task.height // 256
    return max(16, min(base, PATCHES // (patches * (2 if long else 1) + 250)))


def draw_batches(out, stop, wanted, tokenizer, seed, rank, base):
    """A process that draws batches as long as they are wanted. wanted: the tasks' weights, changed as training goes on."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    batcher, rng, n = Batcher(vocabulary.load(tokenizer)), random.Random(seed_of(seed, "gpu", rank)), 0
    names = list(TASKS)
    while not stop.is_set():
        name = rng.choices(names, [wanted[i] for i in range(len(names))])[0]
        task = rng.choice(TASKS[name])
        long = draw_long(rng, name, task)
        n += 1
        batch = batcher.for_training(task, batch_size(task, long, base), 4, long, seed_of(seed, "gpu", rank, n))
        batch.questions = None  # text that the GPU has no use for
        while not stop.is_set():
            try:
                out.put((name, batch), timeout=0.5)
                break
            except queue.Full:
                continue
    out.cancel_join_thread()


class Training:
    def __init__(self, options, out):
        self.options, self.out = options, out
        self.device = torch.device(options.device)
        tokenizer = vocabulary.load(out / "tokenizer.json")
        self.model = begin_model(options.config, tokenizer, options.base).to(self.device)
        self.optimiser = Optimiser(self.model, 0, 1)
        self.batcher = Batcher(tokenizer)
        self.losses, self.need, self.scenes, self.steps = {}, {}, 0, 0
        self.again = []  # [task name, batch, times used] that may be used again
        context = torch.multiprocessing.get_context("fork")
        self.stop, self.wanted = context.Event(), context.Array("d", len(TASKS))
        self.weigh(0.0)
        self.queue = context.Queue(2 * options.workers)
        self.drawers = [context.Process(target=draw_batches, daemon=True, args=(
            self.queue, self.stop, self.wanted, out / "tokenizer.json", options.seed, rank, options.batch))
            for rank in range(options.workers)]

    def weigh(self, progress):
        for i, (name, weight) in enumerate(mixture(progress).items()):
            self.wanted[i] = weight * self.need.get(name, 1)

    def next_batch(self):
        """A new one, or, while the processor is behind, one of the last few hundred again, each up to --reuse times in all."""
        if self.again and self.queue.empty():
            entry = random.choice(self.again)
        else:
            entry = [*self.queue.get(timeout=120), 0]
            if self.options.reuse > 1:
                self.again.append(entry)
        entry[2] += 1
        if entry[2] >= self.options.reuse or len(self.again) > 300:
            self.again = [other for other in self.again[-300:] if other is not entry]
        return entry[:2]

    def step(self, progress):
        for _ in range(self.options.together):
            name, batch = self.next_batch()
            loss, answers = loss_of(self.model, batch)
            (loss / self.options.together).backward()
            self.losses.setdefault(name, []).append(answers)
            self.scenes += len(batch.pixels)
        gradient = {p: p.grad if p.grad is not None else torch.zeros_like(p) for p in self.model.parameters()}
        rate = rate_at(self.options, progress, self.steps)
        self.optimiser.step(gradient, self.options.rate * rate, self.options.adam_rate * rate)
        self.model.zero_grad(set_to_none=True)
        self.steps += 1

    def save(self, minutes, measured):
        scores = exact_match(self.model, self.batcher, list(TASKS), n_batches=2) if measured else {}
        percent = {name: round(100 * right / asked, 1) for name, (right, asked) in scores.items()}
        if scores:
            self.need = {name: 1.2 - right / asked for name, (right, asked) in scores.items() if "/" not in name}
        losses = {k: round(torch.stack(v[-20:]).mean().item(), 3) for k, v in self.losses.items()}
        self.losses = {k: v[-20:] for k, v in self.losses.items()}
        with open(self.out / "log.jsonl", "a") as log:
            log.write(json.dumps(dict(minutes=round(minutes, 1), step=self.steps, scenes=self.scenes, loss=losses, exact_match=percent)) + "\n")
        weights = {k: v.cpu() for k, v in self.model.state_dict().items()}
        torch.save(dict(model=weights, config=self.options.config), self.out / "new.pt")
        os.replace(self.out / "new.pt", self.out / "last.pt")
        print(f"{minutes:.1f} min, step {self.steps}, {self.scenes} scenes: "
              + json.dumps({k: v for k, v in percent.items() if "/" not in k} or losses), flush=True)

    def run(self):
        start = saved = time.time()
        for drawer in self.drawers:
            drawer.start()
        try:
            while (minutes := (time.time() - start) / 60) < self.options.minutes:
                progress = minutes / self.options.minutes
                self.step(progress)
                if time.time() - saved > 60 * self.options.save_every:
                    self.save(minutes, True)
                    self.weigh(progress)
                    saved = time.time()
        finally:
            self.stop.set()
            self.save((time.time() - start) / 60, True)


def in_pieces(path):
    """last.pt as last.pt.00, last.pt.01, ...; the whole is removed."""
    data = path.read_bytes()
    for i in range(0, len(data), PIECE):
        path.with_name(f"{path.name}.{i // PIECE:02d}").write_bytes(data[i:i + PIECE])
    path.unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--minutes", type=float, default=18)
    parser.add_argument("--from", dest="base")
    parser.add_argument("--config", default="small", choices=CONFIGS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=384, help="scenes of a batch at most")
    parser.add_argument("--together", type=int, default=3, help="batches of a step")
    parser.add_argument("--reuse", type=int, default=2, help="times that a batch is used at most, where drawing is too slow for the GPU")
    parser.add_argument("--workers", type=int, default=max(1, len(os.sched_getaffinity(0)) - 1))
    parser.add_argument("--rate", type=float, default=4e-3, help="of Muon")
    parser.add_argument("--adam-rate", type=float, default=3e-3)
    parser.add_argument("--hold", type=float, default=0.35)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--save-every", type=float, default=3, help="minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pieces", action="store_true")
    options = parser.parse_args()
    out = options.out or HERE / "runs" / options.name
    prepare_folder(out, options.base)
    torch.manual_seed(options.seed)
    torch.multiprocessing.set_sharing_strategy("file_system")
    Training(options, out).run()
    plot(out)
    if options.pieces:
        in_pieces(out / "last.pt")


if __name__ == "__main__":
    sys.exit(main())
