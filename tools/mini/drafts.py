#!/usr/bin/env python3
"""Trains the block that drafts the token after next (MTP) for a trained model, whose weights stay as they are.

    drafts.py runs/NAME/last.pt --minutes 30            writes the same file with the block, under "drafts"

May be stopped (SIGINT, SIGTERM) and started again: it goes on from the block in the file.

Row i of the block pairs the hidden state of token i with the embedding of token i + 1 and guesses token i + 2; what it
learns is the model's own choice, since a draft counts only where the model agrees. docs/MODEL.md has the formulas.
"""
import argparse
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import vocabulary
from arithmetic import linear
from batches import Batcher, seed_of
from export import load_training
from model import Layer, Norm, Rows
from scenes import TASKS
from train import mixture

HELD_OUT = "held out drafts"


class Drafts(nn.Module):
    """The MTP block; parameters named as published, below "mtp."."""

    def __init__(self, text):
        super().__init__()
        width = text["hidden_size"]
        self.fc = nn.Linear(2 * width, width, False)
        self.pre_fc_norm_embedding, self.pre_fc_norm_hidden, self.norm = Norm(width), Norm(width), Norm(width)
        self.layers = nn.ModuleList([Layer(text, "full_attention")])

    def forward(self, model, batch, states, inputs):
        """Hidden states [B * K, T, width]: row j of a branch guesses what follows its token j.

        The prompt's last row belongs to the branches here: the token after it is each question's first."""
        (seen, said), (prompt, branches) = states, inputs
        scenes, width = seen.shape[0], seen.shape[2]
        rows = Rows(scenes, seen.shape[1] - 1, batch.per_scene, said.shape[1], self._angles(model, batch, said.shape[1]))
        last = rows.per_branch(seen[:, -1:], 1)
        hidden = torch.cat((seen[:, :-1].reshape(-1, width), torch.cat((last, said[:, :-1]), 1).reshape(-1, width)))
        following = torch.cat((prompt[:, 1:].reshape(-1, width), branches.reshape(-1, width)))
        hidden = model.language_model.norm(hidden)
        x = linear(torch.cat((self.pre_fc_norm_embedding(following), self.pre_fc_norm_hidden(hidden)), -1), self.fc.weight)
        x = self.layers[0](x.float(), rows)
        return x[rows.n_prompt:].view(said.shape)

    @staticmethod
    def _angles(model, batch, length):
        branch = np.tile(np.arange(length) + batch.next_position - 1, (3, 1))
        return model.angles(batch.positions[:, :-1]), model.angles(branch)

    def logits(self, model, hidden):
        return linear(self.norm(hidden), model.language_model.embed_tokens.weight).float()


def compare(model, drafts, batch):
    """(loss, drafts that the model takes, drafts) at the answers' tokens."""
    with torch.no_grad():
        states, inputs = model.states(batch)
    labels = model.placed(batch.labels)
    counted = labels >= 0
    counted[:, 0] = False
    with torch.no_grad():
        target = model.logits(states[1][counted])
    guess = drafts.logits(model, drafts(model, batch, states, inputs)[counted])
    loss = F.cross_entropy(guess, target.softmax(-1))
    return loss, (guess.argmax(-1) == target.argmax(-1)).sum().item(), len(guess)


@torch.no_grad()
def acceptance(model, drafts, batcher):
    """{task: share of first drafts that the model takes}."""
    shares = {}
    for name, tasks in TASKS.items():
        taken = total = 0
        for task in tasks[:3]:
            _, hits, n = compare(model, drafts, batcher(task, 16, 4, seed_of(HELD_OUT, task), as_typed=False))
            taken, total = taken + hits, total + n
        shares[name] = taken / total
    return shares


def train(model, drafts, batcher, options):
    rng = random.Random(options.seed)
    optimiser = torch.optim.AdamW(drafts.parameters(), lr=options.rate, betas=(0.9, 0.98), weight_decay=0.01)
    shares = mixture(1.0)
    start, step, mean, stopped = time.process_time(), 0, 0.0, []
    for number in (signal.SIGINT, signal.SIGTERM):  # what was learnt until then is kept
        signal.signal(number, lambda *_: stopped.append(True))
    while not stopped and (progress := (time.process_time() - start) / (60 * options.minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = options.rate * min(1, (step + 1) / 50) * (1 - 0.97 * progress)
        task = rng.choice(TASKS[rng.choices(list(shares), list(shares.values()))[0]])
        batch = batcher.for_training(task, 8, 4, rng.random() < 0.5, seed_of(options.seed, "drafts", step))
        loss, hits, n = compare(model, drafts, batch)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        step += 1
        mean = 0.98 * mean + 0.02 * hits / max(n, 1) if step > 1 else hits / max(n, 1)
        if step % 20 == 0:
            sys.stdout.write(f"\r{100 * progress:5.1f} %  step {step}  loss {loss.item():.3f}  taken {100 * mean:.1f} % ")
            sys.stdout.flush()
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--minutes", type=float, default=30, help="of processor time")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    model, _ = load_training(options.checkpoint)
    model.requires_grad_(False)
    drafts = Drafts(model.config["text"])
    saved = torch.load(options.checkpoint, map_location="cpu", weights_only=True)
    if "drafts" in saved:
        drafts.load_state_dict(saved["drafts"])
    batcher = Batcher(vocabulary.load(options.checkpoint.parent / "tokenizer.json"))
    train(model, drafts, batcher, options)
    print("taken, of first drafts: " + ", ".join(f"{k} {100 * v:.0f} %" for k, v in acceptance(model, drafts, batcher).items()))
    new = options.checkpoint.with_suffix(".new")
    torch.save(dict(saved, drafts=drafts.state_dict()), new)
    os.replace(new, options.checkpoint)


if __name__ == "__main__":
    main()
