#!/usr/bin/env python3
"""Trains the bundled model on scenes drawn as it goes, on CPU cores.

    train.py run NAME --minutes 60                      from nothing
    train.py run NAME --minutes 60 --from runs/OLD/last.pt

Several processes of one thread each; the parameters are shared memory, each process steps its part of them. Writes
runs/NAME/log.jsonl, last.pt (every few minutes), tokenizer.json and loss.png. Stopping and going on with --from loses
at most the minutes since the last save.
"""
import argparse
import json
import math
import os
import random
import shutil
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch  # noqa: E402

import vocabulary  # noqa: E402
from arithmetic import PRODUCT  # noqa: E402
from batches import Batcher, seed_of  # noqa: E402
from export import vocabulary_size  # noqa: E402
from model import CONFIGS, Model, loss_of  # noqa: E402
from optimiser import Optimiser  # noqa: E402
from scenes import TASKS  # noqa: E402

HERE = Path(__file__).parent
# Shares of the tasks at the start and the end, linear between.
MIXTURE = [(0.0, {"tiny": 3, "word": 2, "doc": 1.5, "video": 2.5, "video+": 0.5, "still": 2.5, "still+": 0.5, "change": 1,
                  "chart": 1.5, "chart+": 0.5, "line": 0.5, "pie": 0.5, "table": 0.7}),
           (0.5, {"tiny": 1, "word": 2, "doc": 2, "doc+": 0.5, "page": 0.7, "video": 2.5, "video+": 1, "still": 2.5, "still+": 0.7,
                  "change": 1, "chart": 1.5, "chart+": 0.7, "line": 0.8, "pie": 0.8, "table": 1.2}),
           (1.0, {"tiny": 0.5, "word": 1.5, "doc": 2, "doc+": 0.7, "page": 1, "video": 2.5, "video+": 1, "still": 2.5, "still+": 1,
                  "change": 1, "chart": 1.5, "chart+": 0.8, "line": 1, "pie": 1, "table": 1.3})]


def mixture(progress):
    for (p0, a), (p1, b) in zip(MIXTURE, MIXTURE[1:]):
        if progress <= p1:
            q = (progress - p0) / (p1 - p0)
            return {task: (1 - q) * a.get(task, 0) + q * b.get(task, 0) for task in TASKS}
    return MIXTURE[-1][1]


def rate_at(options, progress, step):
    """Share of the learning rate: warm-up, then held, then a cosine almost down to nothing."""
    warm = min(1, (step + 1) / options.warmup)
    if progress <= options.hold:
        return warm
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (progress - options.hold) / (1 - options.hold))))


def draw_long(rng, name, task):
    """Whether a batch's answers are long ones, by chance."""
    return name == "tiny" or rng.random() < (0.6 if task.kind == "document" else 0.3)


def prepare_folder(out, base):
    """Where a training writes: with the tokenizer of the one it goes on from, or one of its own."""
    out.mkdir(parents=True, exist_ok=True)
    if (out / "tokenizer.json").exists():
        return
    if base:
        shutil.copy(Path(base).parent / "tokenizer.json", out)
    else:
        vocabulary.train(out / "tokenizer.json")


def begin_model(config, tokenizer, base):
    """A new model for that tokenizer, with the weights it goes on from."""
    model = Model(CONFIGS[config], vocabulary_size(tokenizer))
    if base:
        model.load_state_dict(torch.load(base, map_location="cpu", weights_only=True)["model"])
    return model


@torch.no_grad()
def exact_match(model, batcher, names, n_batches=3):
    """{task or task/kind: [right, asked]}: every answer token the likeliest one, which is greedy decoding by induction."""
    out = {}
    for name in names:
        for task in TASKS[name]:
            for i in range(n_batches):
                batch = batcher(task, 16, 4, seed_of("held out", task, i), as_typed=False)
                labels = model.placed(batch.labels)
                counted = labels >= 0
                right = torch.ones_like(counted)
                right[counted] = model.logits(model(batch)[counted]).argmax(-1) == labels[counted]
                for question, ok in zip(batch.questions, right.all(1).tolist()):
                    for key in (name, f"{name}/{question.kind}") if question else ():
                        score = out.setdefault(key, [0, 0])
                        score[0] += ok
                        score[1] += 1
    return out


class Worker:
    """One of the processes: its share of each step's batches, gradients and parameters."""

    def __init__(self, rank, options, model, gradients, clock, barrier, out):
        torch.set_num_threads(1)
        self.rank, self.options, self.model = rank, options, model
        self.gradients, self.clock, self.barrier, self.out = gradients, clock, barrier, out
        self.batcher = Batcher(vocabulary.load(out / "tokenizer.json"))
        self.optimiser = Optimiser(model, rank, options.processes)
        self.views, at = [], 0
        for p in model.parameters():
            self.views.append((p, at, at + p.numel()))
            at += p.numel()
        self.log = open(out / "log.jsonl", "a") if rank == 0 else None
        self.losses, self.need, self.step_number, self.scenes = {}, {}, 0, 0
        self.start, self.last_save = time.time(), time.time()

    def read_clock(self):
        """Process 0 reads the time for all, so that they do the same: progress, and whether to save."""
        if self.rank == 0:
            now = time.time()
            self.clock[0] = min(1.0, (now - self.start) / (60 * self.options.minutes))
            self.clock[1] = float(self.clock[0] >= 1 or now - self.last_save > 60 * self.options.save_every)
        self.barrier.wait()
        progress, save = float(self.clock[0]), bool(self.clock[1])
        self.barrier.wait()
        return progress, save

    def share(self, progress):
        """This process's batches of a step: (task name, task, long answers)."""
        weights = {name: w * self.need.get(name, 1) for name, w in mixture(progress).items() if name not in self.options.without}
        rng, todo = random.Random(seed_of(self.options.seed, self.step_number)), []
        for name in rng.choices(list(weights), list(weights.values()), k=2 * self.options.processes):
            task = rng.choice(TASKS[name])
            long = draw_long(rng, name, task)
            cost = task.n_frames * task.width * task.height * (2 if long else 1.6) + 70000
            todo.append((cost, name, task, long))
        load, mine = [0.0] * self.options.processes, []
        for cost, *job in sorted(todo, key=lambda t: -t[0]):
            owner = load.index(min(load))
            load[owner] += cost
            if owner == self.rank:
                mine.append(job)
        return mine

    def train_step(self, progress):
        for i, (name, task, long) in enumerate(self.share(progress)):
            seed = seed_of(self.options.seed, "train", self.step_number, self.rank, i)
            batch = self.batcher.for_training(task, 8, 4, long, seed)
            loss, answers = loss_of(self.model, batch)
            (loss / (2 * self.options.processes)).backward()
            self.losses[name] = 0.97 * self.losses.get(name, answers.item()) + 0.03 * answers.item()
            self.scenes += len(batch.pixels) * self.options.processes
        for p, begin, end in self.views:
            if p.grad is None:
                self.gradients[self.rank, begin:end] = 0
            else:
                self.gradients[self.rank, begin:end] = p.grad.view(-1)
                p.grad = None
        self.barrier.wait()
        gradient = {p: self.gradients[:, begin:end].sum(0).view_as(p)
                    for p, begin, end in self.views if p in self.optimiser.owned}
        rate = rate_at(self.options, progress, self.step_number)
        self.optimiser.step(gradient, self.options.rate * rate, self.options.adam_rate * rate)
        self.barrier.wait()
        self.step_number += 1

    def save(self, progress):
        """Measures, gives tasks that are learnt fewer scenes, and writes the checkpoint."""
        scores = exact_match(self.model, self.batcher, list(TASKS)[self.rank::self.options.processes])
        part = self.out / f"scores.{self.rank}.json"
        part.write_text(json.dumps(scores))
        self.barrier.wait()
        for rank in range(self.options.processes):
            scores.update(json.loads((self.out / f"scores.{rank}.json").read_text()))
        self.need = {name: 1.2 - right / asked for name, (right, asked) in scores.items() if "/" not in name}
        if self.rank == 0:
            percent = {name: round(100 * right / asked, 1) for name, (right, asked) in scores.items()}
            entry = dict(minutes=round((time.time() - self.start) / 60, 1), step=self.step_number, scenes=self.scenes,
                         loss={k: round(v, 3) for k, v in self.losses.items()}, exact_match=percent)
            self.log.write(json.dumps(entry) + "\n")
            self.log.flush()
            torch.save(dict(model=self.model.state_dict(), config=self.options.config), self.out / "new.pt")
            os.replace(self.out / "new.pt", self.out / "last.pt")
            print("\r" + json.dumps({k: v for k, v in percent.items() if "/" not in k}), flush=True)
        self.last_save = time.time()
        self.barrier.wait()

    def show(self, progress):
        if self.rank == 0 and self.step_number % 10 == 0:
            done = int(40 * progress)
            rate = self.scenes / (time.time() - self.start)
            mean = sum(self.losses.values()) / max(1, len(self.losses))
            sys.stdout.write(f"\r[{'#' * done}{'.' * (40 - done)}] {100 * progress:5.1f} %  step {self.step_number}"
                             f"  {rate:.0f} scenes/s  loss {mean:.3f} ")
            sys.stdout.flush()

    def run(self):
        while True:
            progress, save = self.read_clock()
            if save:
                self.save(progress)
            if progress >= 1:
                return
            self.train_step(progress)
            self.show(progress)


def plot(out):
    """loss.png: the tasks' losses and exact match over the minutes."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    rows = [json.loads(line) for line in open(out / "log.jsonl")]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 5))
    for name in TASKS:
        left.plot([r["minutes"] for r in rows], [r["loss"].get(name) for r in rows], label=name)
        right.plot([r["minutes"] for r in rows], [r["exact_match"].get(name) for r in rows], label=name)
    left.set(xlabel="minutes", ylabel="loss per answer token", yscale="log")
    right.set(xlabel="minutes", ylabel="exact match, %")
    right.legend()
    figure.savefig(out / "loss.png", dpi=100)


def worker(*arguments):
    Worker(*arguments).run()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "plot"])
    parser.add_argument("name")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--from", dest="base", help="a last.pt to go on from")
    parser.add_argument("--config", default="small", choices=CONFIGS)
    parser.add_argument("--rate", type=float, default=4e-3, help="of Muon")
    parser.add_argument("--adam-rate", type=float, default=2e-3)
    parser.add_argument("--hold", type=float, default=0.35, help="share of the time before the rate falls")
    parser.add_argument("--warmup", type=int, default=60, help="steps")
    parser.add_argument("--save-every", type=float, default=5, help="minutes")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without", nargs="*", default=[], choices=TASKS, help="tasks to leave out, to spend the time on the others")
    options = parser.parse_args()
    out = HERE / "runs" / options.name
    if options.command == "plot":
        return plot(out)
    prepare_folder(out, options.base)
    torch.manual_seed(options.seed)
    model = begin_model(options.config, vocabulary.load(out / "tokenizer.json"), options.base)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {options.processes} processes, "
          f"products in {str(PRODUCT).removeprefix('torch.')}", flush=True)
    model.share_memory()
    gradients = torch.zeros(options.processes, sum(p.numel() for p in model.parameters())).share_memory_()
    clock = torch.zeros(2).share_memory_()
    context = torch.multiprocessing.get_context("fork")
    barrier = context.Barrier(options.processes)
    workers = [context.Process(target=worker, args=(rank, options, model, gradients, clock, barrier, out))
               for rank in range(options.processes)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    if any(w.exitcode for w in workers):
        sys.exit("a process failed")
    plot(out)


if __name__ == "__main__":
    main()
