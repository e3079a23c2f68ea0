"""Muon for matrices (Jordan et al. 2024: momentum, orthogonalised by Newton-Schulz), AdamW for the rest.

Each of several processes steps the parameters that it owns; together they own all.
"""
import math

import torch

from arithmetic import PRODUCT

NOT_MATRICES = ("embed_tokens", "pos_embed", "conv1d", "reader.")
MOMENTUM, DECAY = 0.95, 0.02
BETA1, BETA2 = 0.9, 0.98


def orthogonalise(g, steps=5):
    """The nearest orthogonal matrices, roughly; g [n, rows, columns]."""
    x = g.to(PRODUCT)
    wide = x.shape[1] > x.shape[2]
    if wide:
        x = x.transpose(1, 2)
    x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-7).to(x.dtype)
    for _ in range(steps):
        a = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.transpose(1, 2) if wide else x).float()


def _cost(p):
    return min(p.shape[0], p[0].numel()) * p.numel()


class Optimiser:
    def __init__(self, model, rank, n_processes):
        matrices, rest = [], []
        for name, p in model.named_parameters():
            is_matrix = p.ndim >= 2 and not any(part in name for part in NOT_MATRICES)
            (matrices if is_matrix else rest).append(p)
        load, mine = [0.0] * n_processes, []
        for p in sorted(matrices, key=_cost, reverse=True):  # the dearest first, each to the least busy
            owner = load.index(min(load))
            load[owner] += _cost(p)
            if owner == rank:
                mine.append(p)
        self.by_shape = {}
        for p in mine:
            self.by_shape.setdefault((p.shape[0], p[0].numel()), []).append(p)
        self.momentum = {p: torch.zeros_like(p) for p in mine}
        self.plain = rest[rank::n_processes]
        self.first = [torch.zeros_like(p) for p in self.plain]
        self.second = [torch.zeros_like(p) for p in self.plain]
        self.steps = 0
        self.owned = set(mine) | set(self.plain)

    @torch.no_grad()
    def step(self, gradient, muon_rate, adam_rate):
        """gradient: of each owned parameter."""
        self.steps += 1
        for (rows, columns), group in self.by_shape.items():
            for p in group:
                self.momentum[p].lerp_(gradient[p], 1 - MOMENTUM)
            look_ahead = [gradient[p] * (1 - MOMENTUM) + self.momentum[p] * MOMENTUM for p in group]
            updates = orthogonalise(torch.stack([u.view(rows, columns) for u in look_ahead]))
            for p, update in zip(group, updates):
                p.mul_(1 - muon_rate * DECAY)
                p.add_(update.view_as(p), alpha=-muon_rate * 0.2 * math.sqrt(max(rows, columns)))
        for p, m, v in zip(self.plain, self.first, self.second):
            g = gradient[p]
            m.lerp_(g, 1 - BETA1)
            v.lerp_(g * g, 1 - BETA2)
            if p.ndim >= 2:
                p.mul_(1 - adam_rate * DECAY)
            unbiased = (v / (1 - BETA2 ** self.steps)).sqrt() + 1e-8
            p.addcdiv_(m / (1 - BETA1 ** self.steps), unbiased, value=-adam_rate)
