"""The bundled model for training: parameters named as in the published checkpoint, a batch of scenes at once.

The prompt up to the question is computed once per scene; the K questions of a scene continue from its state (keys and
values, convolution tail, delta state), which is exactly what K single-turn conversations would compute.
Weights, norms and the residual are float32, matrix products bfloat16. docs/MODEL.md has the formulas.
"""
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import delta
from arithmetic import EPS, PRODUCT, l2, linear, rms, rotate
from batches import CELL_COLUMNS, CELL_ROWS
from scenes.writing import CHARACTERS
from vision import PatchReader, Vision

CHUNK = 64

# Two sizes; "small" is the one in models/mini.
CONFIGS = {
    "small": dict(
        text=dict(hidden_size=192, intermediate_size=512, num_hidden_layers=6, full_attention_interval=3,
                  num_attention_heads=4, num_key_value_heads=2, head_dim=64, linear_num_key_heads=3,
                  linear_num_value_heads=3, linear_key_head_dim=64, linear_value_head_dim=64, linear_conv_kernel_dim=4),
        vision=dict(depth=5, hidden_size=128, intermediate_size=384, num_heads=4, num_position_embeddings=256),
        deepstack=(1, 3)),
    "medium": dict(
        text=dict(hidden_size=256, intermediate_size=640, num_hidden_layers=8, full_attention_interval=4,
                  num_attention_heads=4, num_key_value_heads=2, head_dim=64, linear_num_key_heads=4,
                  linear_num_value_heads=4, linear_key_head_dim=64, linear_value_head_dim=64, linear_conv_kernel_dim=4),
        vision=dict(depth=6, hidden_size=192, intermediate_size=512, num_heads=6, num_position_embeddings=256),
        deepstack=(1, 3)),
}
# A small theta: with few rotary dimensions, 1e7 would leave height and width no usable frequency.
ROPE = dict(rope_type="default", rope_theta=1000.0, partial_rotary_factor=0.5, mrope_section=[6, 5, 5],
            mrope_interleaved=True)


class Norm(nn.Module):
    """RMS norm with a zero-centred weight."""

    def __init__(self, n):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n))

    def forward(self, x):
        return rms(x.float()) * (1 + self.weight)


class PlainWeight(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))


class Mlp(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(width, inner, False), nn.Linear(width, inner, False)
        self.down_proj = nn.Linear(inner, width, False)

    def forward(self, x):
        gate, up = linear(x, torch.cat((self.gate_proj.weight, self.up_proj.weight))).chunk(2, -1)
        return linear(F.silu(gate) * up, self.down_proj.weight)


class Rows:
    """How a step's rows are laid out: first the B prompts of P tokens, then their B * K branches of T tokens."""

    def __init__(self, scenes, prompt, per_scene, branch, angles):
        self.scenes, self.prompt, self.per_scene, self.branch = scenes, prompt, per_scene, branch
        self.n_prompt = scenes * prompt
        self.prompt_angles, self.branch_angles = angles

    def per_branch(self, t, rows):
        """A value per scene [B * rows, ...] repeated for each of its branches."""
        b, k = self.scenes, self.per_scene
        return t.view(b, 1, rows, *t.shape[1:]).expand(b, k, rows, *t.shape[1:]).reshape(b * k * rows, *t.shape[1:])


class DeltaNet(nn.Module):
    def __init__(self, c):
        super().__init__()
        width = c["hidden_size"]
        self.key_heads, self.value_heads = c["linear_num_key_heads"], c["linear_num_value_heads"]
        self.dk, self.dv, self.taps = c["linear_key_head_dim"], c["linear_value_head_dim"], c["linear_conv_kernel_dim"]
        self.keys, self.values = self.key_heads * self.dk, self.value_heads * self.dv
        self.channels = 2 * self.keys + self.values
        self.conv1d = nn.Conv1d(self.channels, self.channels, self.taps, groups=self.channels, bias=False)
        # Time constants from a few tokens to a few hundred; the usual start forgets too quickly.
        step = torch.exp(torch.linspace(math.log(0.003), math.log(0.15), self.value_heads))
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))
        self.A_log = nn.Parameter(torch.log(torch.linspace(1.0, 8.0, self.value_heads)))
        self.norm, self.out_proj = PlainWeight(self.dv), nn.Linear(self.values, width, False)
        self.in_proj_qkv, self.in_proj_z = nn.Linear(width, self.channels, False), nn.Linear(width, self.values, False)
        self.in_proj_b, self.in_proj_a = nn.Linear(width, self.value_heads, False), nn.Linear(width, self.value_heads, False)

    def _heads(self, x, heads, size):
        return x.reshape(x.shape[0], x.shape[1], heads, size).transpose(1, 2)

    def mix(self, x, tail, g, beta, state):
        """x [N, T, channels] before the convolution -> outputs [N * T, heads, Dv], new tail, new state."""
        n, size, _ = x.shape
        x = torch.cat((tail, x), 1)
        q, k, v = delta.ConvSilu.apply(x.float(), self.conv1d.weight[:, 0]).split((self.keys, self.keys, self.values), -1)
        q = l2(self._heads(q, self.key_heads, self.dk)) * self.dk ** -0.5
        k, v = l2(self._heads(k, self.key_heads, self.dk)), self._heads(v, self.value_heads, self.dv)
        if self.key_heads != self.value_heads:
            repeat = self.value_heads // self.key_heads
            q, k = q.repeat_interleave(repeat, 1), k.repeat_interleave(repeat, 1)
        q, k, v = (a.reshape(n * self.value_heads, size, -1) for a in (q, k, v))
        g, beta = (a.transpose(1, 2).reshape(n * self.value_heads, size) for a in (g, beta))
        pieces = -(-size // CHUNK)
        length = -(-size // pieces)
        outputs = []
        for i in range(0, size, length):
            at = slice(i, i + length)
            o, state = delta.chunk(q[:, at], k[:, at], v[:, at], g[:, at], beta[:, at], state)
            outputs.append(o)
        o = torch.cat(outputs, 1).view(n, self.value_heads, size, self.dv).transpose(1, 2)
        return o.reshape(n * size, self.value_heads, self.dv), x[:, size:], state

    def forward(self, x, rows):
        y = linear(x, torch.cat((self.in_proj_qkv.weight, self.in_proj_z.weight, self.in_proj_b.weight, self.in_proj_a.weight)))
        u, z, b, a = y.split((self.channels, self.values, self.value_heads, self.value_heads), -1)
        beta, g = b.float().sigmoid(), -self.A_log.exp() * F.softplus(a.float() + self.dt_bias)
        scenes, n = rows.scenes, rows.n_prompt
        first = lambda t: t[:n].view(scenes, rows.prompt, -1)
        rest = lambda t: t[n:].view(scenes * rows.per_scene, rows.branch, -1)
        o_prompt, tail, state = self.mix(first(u), u.new_zeros(scenes, self.taps - 1, self.channels), first(g), first(beta), None)
        o_branch, _, _ = self.mix(rest(u), rows.per_branch(tail, 1), rest(g), rest(beta), rows.per_branch(state, self.value_heads))
        o = rms(torch.cat((o_prompt, o_branch))) * self.norm.weight
        o = o * F.silu(z.float()).view(-1, self.value_heads, self.dv)
        return linear(o.view(-1, self.values), self.out_proj.weight)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        width, self.heads, self.kv_heads, self.size = c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        self.q_proj = nn.Linear(width, self.heads * self.size * 2, False)
        self.k_proj, self.v_proj = (nn.Linear(width, self.kv_heads * self.size, False) for _ in range(2))
        self.o_proj = nn.Linear(self.heads * self.size, width, False)
        self.q_norm, self.k_norm = Norm(self.size), Norm(self.size)

    def _per_sequence(self, t, sequences, length):
        return t.view(sequences, length, -1, self.size).transpose(1, 2)

    @staticmethod
    def _causal(scores):
        size = scores.shape[-1]
        return scores.masked_fill(torch.ones(size, size, dtype=torch.bool, device=scores.device).triu(1), float("-inf"))

    def _within_prompt(self, q, k, v, rows):
        """Causal attention of the prompts; the query heads of one key head go together."""
        b, g, p, d, r = rows.scenes, self.kv_heads, rows.prompt, self.size, self.heads // self.kv_heads
        scores = torch.bmm(q.reshape(b * g, r * p, d), k.reshape(b * g, p, d).transpose(1, 2)).float().view(b * g, r, p, p)
        weights = self._causal(scores).softmax(-1).to(PRODUCT)
        o = torch.bmm(weights.view(b * g, r * p, p), v.reshape(b * g, p, d))
        return o.view(b, self.heads, p, d).transpose(1, 2).reshape(b * p, -1)

    def _of_branches(self, q, k, v, k_prompt, v_prompt, rows):
        """Attention of the branches to their scene's prompt (all of a scene in one product) and to themselves."""
        b, n, g, p, t, d = rows.scenes, rows.per_scene, self.kv_heads, rows.prompt, rows.branch, self.size
        r = self.heads // g
        by_scene = q.view(b, n, g, r * t, d).transpose(1, 2).reshape(b * g, n * r * t, d)
        to_prompt = torch.bmm(by_scene, k_prompt.reshape(b * g, p, d).transpose(1, 2)).view(b, g, n, r, t, p).transpose(1, 2)
        to_self = torch.bmm(q.reshape(b * n * g, r * t, d), k.reshape(b * n * g, t, d).transpose(1, 2)).view(b, n, g, r, t, t)
        weights = torch.cat((to_prompt, self._causal(to_self)), -1).float().softmax(-1).to(PRODUCT)
        from_prompt = torch.bmm(weights[..., :p].transpose(1, 2).reshape(b * g, n * r * t, p), v_prompt.reshape(b * g, p, d))
        from_self = torch.bmm(weights[..., p:].reshape(b * n * g, r * t, t), v.reshape(b * n * g, t, d))
        o = from_prompt.view(b, g, n, r, t, d).transpose(1, 2) + from_self.view(b, n, g, r, t, d)
        return o.reshape(b * n, self.heads, t, d).transpose(1, 2).reshape(b * n * t, -1)

    def forward(self, x, rows):
        inner, kv = self.heads * self.size, self.kv_heads * self.size
        y = linear(x, torch.cat((self.q_proj.weight, self.k_proj.weight, self.v_proj.weight)))
        q_and_gate, k, v = y.split((2 * inner, kv, kv), -1)
        q, gate = q_and_gate.view(-1, self.heads, 2 * self.size).chunk(2, -1)
        q, k, v = self.q_norm(q), self.k_norm(k.view(-1, self.kv_heads, self.size)), v.view(-1, self.kv_heads, self.size)
        n, scale = rows.n_prompt, self.size ** -0.5
        first = lambda t: self._per_sequence(t[:n], rows.scenes, rows.prompt)
        rest = lambda t: self._per_sequence(t[n:], rows.scenes * rows.per_scene, rows.branch)
        q1, k1, v1 = rotate(first(q), *rows.prompt_angles) * scale, rotate(first(k), *rows.prompt_angles), first(v)
        q2, k2, v2 = rotate(rest(q), *rows.branch_angles) * scale, rotate(rest(k), *rows.branch_angles), rest(v)
        q1, k1, v1, q2, k2, v2 = (t.to(PRODUCT) for t in (q1, k1, v1, q2, k2, v2))
        o = torch.cat((self._within_prompt(q1, k1, v1, rows), self._of_branches(q2, k2, v2, k1, v1, rows)))
        return linear(o * gate.reshape(-1, inner).float().sigmoid(), self.o_proj.weight)


class Layer(nn.Module):
    def __init__(self, c, kind):
        super().__init__()
        width = c["hidden_size"]
        if kind == "linear_attention":
            self.linear_attn = DeltaNet(c)
        else:
            self.self_attn = Attention(c)
        self.mixer = [self.linear_attn if kind == "linear_attention" else self.self_attn]  # a list: no second name
        self.mlp = Mlp(width, c["intermediate_size"])
        self.input_layernorm, self.post_attention_layernorm = Norm(width), Norm(width)

    def forward(self, x, rows):
        x = x + self.mixer[0](self.input_layernorm(x), rows)
        return x + self.mlp(self.post_attention_layernorm(x))


class Model(nn.Module):
    def __init__(self, config, vocab):
        super().__init__()
        self.config, self.vocab = config, vocab
        text = config["text"]
        width = text["hidden_size"]
        interval = text["full_attention_interval"]
        self.kinds = ["full_attention" if (i + 1) % interval == 0 else "linear_attention"
                      for i in range(text["num_hidden_layers"])]
        self.visual = Vision(config["vision"], config["deepstack"], width)
        self.language_model = nn.Module()
        self.language_model.embed_tokens = nn.Embedding(vocab, width)
        self.language_model.layers = nn.ModuleList(Layer(text, kind) for kind in self.kinds)
        self.language_model.norm = Norm(width)
        self.reader = PatchReader(config["vision"]["hidden_size"], len(CHARACTERS) + 1, CELL_ROWS * CELL_COLUMNS)
        self._start()
        rotary = int(text["head_dim"] * ROPE["partial_rotary_factor"])
        self.register_buffer("frequencies", 1 / (ROPE["rope_theta"] ** (torch.arange(0, rotary, 2).float() / rotary)), False)

    def _start(self):
        residual = ("o_proj", "out_proj", "down_proj", "attn.proj", "mlp.linear_fc2")
        for name, p in self.named_parameters():
            if "embed" in name and "patch" not in name:
                nn.init.normal_(p, std=0.05)
            elif "conv1d" in name:
                nn.init.normal_(p, std=0.15)
                p.data[:, :, -1] += 0.7  # mostly the present token
            elif p.ndim >= 2:
                std = p[0].numel() ** -0.5
                if any(part in name for part in residual):
                    std /= math.sqrt(len(self.kinds) + 1)
                if "deepstack" in name and "fc2" in name:
                    std *= 0.5
                nn.init.normal_(p, std=std)
            elif name.endswith("bias") and "dt_bias" not in name:
                nn.init.zeros_(p)

    def placed(self, array):
        """An array of a batch where the model is."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.frequencies.device, non_blocking=True)

    def angles(self, positions):
        """[3, T] -> cos, sin [T, rotary], interleaved over t, h, w."""
        turns = self.placed(positions).float()[..., None] * self.frequencies
        mixed = turns[0].clone()
        for axis in (1, 2):
            at = slice(axis, ROPE["mrope_section"][axis] * 3, 3)
            mixed[:, at] = turns[axis][:, at]
        mixed = torch.cat((mixed, mixed), -1)
        return mixed.cos(), mixed.sin()

    def states(self, batch):
        """Hidden states of all rows before the last norm, and what the layers read: (prompt [B, P, width], branches
        [B * K, T, width]) twice."""
        lm, n_branch = self.language_model, batch.ids.shape[1]
        branch_positions = np.tile(np.arange(n_branch) + batch.next_position, (3, 1))
        rows = Rows(len(batch.pixels), len(batch.prompt), batch.per_scene, n_branch,
                    (self.angles(batch.positions), self.angles(branch_positions)))
        features, levels = self.visual(self.placed(batch.pixels), batch.grid)
        visual = self.placed(batch.visual)
        prompt = lm.embed_tokens(self.placed(batch.prompt)).expand(rows.scenes, rows.prompt, -1)
        prompt = prompt.index_copy(1, visual, features)
        width = prompt.shape[-1]
        branches = lm.embed_tokens(self.placed(batch.ids))
        x = torch.cat((prompt.reshape(rows.n_prompt, width), branches.view(-1, width)))
        for i, layer in enumerate(lm.layers):
            x = layer(x, rows)
            if i < len(levels):
                seen = x[:rows.n_prompt].view(rows.scenes, rows.prompt, width).index_add(1, visual, levels[i])
                x = torch.cat((seen.view(rows.n_prompt, width), x[rows.n_prompt:]))
        seen, said = x[:rows.n_prompt].view(prompt.shape), x[rows.n_prompt:].view(branches.shape)
        return (seen, said), (prompt, branches)

    def forward(self, batch):
        """Hidden states of the branches [B * K, T, width]."""
        return self.states(batch)[0][1]

    def logits(self, hidden):
        return linear(self.language_model.norm(hidden), self.language_model.embed_tokens.weight).float()


def loss_of(model, batch, reader_weight=1.0):
    """What is minimised (answers, and what the patches show), and the answers' part of it."""
    hidden, labels = model(batch), model.placed(batch.labels)
    counted = labels >= 0
    answers = F.cross_entropy(model.logits(hidden[counted]), labels[counted])
    if not reader_weight:
        return answers, answers.detach()
    return answers + reader_weight * model.reader.loss(model.visual.last, batch), answers.detach()
