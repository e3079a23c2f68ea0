"""The gated delta rule over one chunk, with gradients, as a triangular inverse and a few products (docs/MODEL.md)."""
import torch
import torch.nn.functional as F


class _UnitLowerInverse(torch.autograd.Function):
    """(I + strictly lower L)^-1, batched: blocks of 16 by repeated squaring, then neighbours merged."""

    @staticmethod
    def forward(ctx, lower):
        n, size, _ = lower.shape
        padded = 16
        while padded < size:
            padded *= 2
        a = F.pad(lower, (0, padded - size, 0, padded - size)) if padded != size else lower
        blocks = padded // 16
        a = a.view(n, blocks, 16, blocks, 16)
        power = -torch.stack([a[:, i, :, i] for i in range(blocks)], 1).reshape(-1, 16, 16)
        inverse = torch.eye(16, device=power.device) + power
        for _ in range(3):
            power = power @ power
            inverse = inverse + inverse @ power
        inverse, a, side = inverse.view(n, blocks, 16, 16), a.reshape(n, padded, padded), 16
        while side < padded:
            blocks //= 2
            below = torch.stack([a[:, (2 * i + 1) * side:(2 * i + 2) * side, 2 * i * side:(2 * i + 1) * side]
                                 for i in range(blocks)], 1)
            first, second = inverse[:, 0::2], inverse[:, 1::2]
            merged = inverse.new_zeros(n, blocks, 2 * side, 2 * side)
            merged[..., :side, :side], merged[..., side:, side:] = first, second
            merged[..., side:, :side] = -(second @ below @ first)
            inverse, side = merged, 2 * side
        inverse = inverse.view(n, padded, padded)[:, :size, :size].contiguous()
        ctx.save_for_backward(inverse)
        return inverse

    @staticmethod
    def backward(ctx, gradient):
        inverse, = ctx.saved_tensors
        transposed = inverse.transpose(1, 2)
        return -(transposed @ gradient @ transposed).tril(-1)


def chunk(q, k, v, g, beta, state):
    """q, k [N, T, Dk] (normalised), v [N, T, Dv], g (log decay) and beta [N, T], state [N, Dk, Dv] or None for zero.
    -> output [N, T, Dv], the state after it."""
    size = q.shape[1]
    total = g.cumsum(-1)
    decay = total.exp().unsqueeze(-1)
    later = torch.ones(size, size, dtype=torch.bool, device=q.device).triu(1)
    between = (total.unsqueeze(2) - total.unsqueeze(1)).masked_fill(later, float("-inf")).exp()
    scaled, k_t = k * beta.unsqueeze(-1), k.transpose(1, 2)
    inverse = _UnitLowerInverse.apply((torch.bmm(scaled, k_t) * between).tril(-1))
    attention = torch.bmm(q, k_t) * between
    last = total[:, -1:]
    to_end = (k * (last - total).exp().unsqueeze(-1)).transpose(1, 2)
    target = v * beta.unsqueeze(-1)
    if state is None:
        update = torch.bmm(inverse, target)
        return torch.bmm(attention, update), torch.bmm(to_end, update)
    update = torch.bmm(inverse, target - torch.bmm(scaled * decay, state))
    output = torch.bmm(attention, update) + torch.bmm(q * decay, state)
    return output, state * last.exp().unsqueeze(-1) + torch.bmm(to_end, update)


class ConvSilu(torch.autograd.Function):
    """Causal depthwise convolution, then silu: x [N, T + w - 1, C], weight [C, w] -> [N, T, C]. Autograd's own graph of
    it is several times slower."""

    @staticmethod
    def forward(ctx, x, weight):
        width = weight.shape[1]
        size = x.shape[1] - width + 1
        taps = weight.t().contiguous()
        y = x[:, :size] * taps[0]
        for j in range(1, width):
            y.addcmul_(x[:, j:j + size], taps[j])
        ctx.save_for_backward(x, taps, y)
        return F.silu(y)

    @staticmethod
    def backward(ctx, gradient):
        x, taps, y = ctx.saved_tensors
        width, size = taps.shape[0], y.shape[1]
        gradient = torch.ops.aten.silu_backward(gradient, y)
        dx = torch.zeros_like(x)
        for j in range(width):
            dx[:, j:j + size].addcmul_(gradient, taps[j])
        return dx, torch.stack([(gradient * x[:, j:j + size]).sum((0, 1)) for j in range(width)], 1)
