"""What the text and vision parts share: products, norms, rotary."""
import time

import torch
import torch.nn.functional as F

EPS = 1e-6


def _faster_product():
    """bfloat16 where it is faster than float32: on GPUs, and on processors with fast instructions for it. Some have slow ones."""
    if torch.cuda.is_available():
        return torch.bfloat16
    seconds = {}
    for kind in (torch.bfloat16, torch.float32):
        x, w = torch.ones(1024, 256, dtype=kind), torch.ones(512, 256, dtype=kind)
        times = []
        for _ in range(8):
            start = time.process_time()
            F.linear(x, w)
            times.append(time.process_time() - start)
        seconds[kind] = min(times)
    return min(seconds, key=seconds.get)


PRODUCT = _faster_product()


def linear(x, weight, bias=None):
    return F.linear(x.to(PRODUCT), weight.to(PRODUCT), None if bias is None else bias.to(PRODUCT))


def rms(x):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS)


def l2(x):
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + EPS)


def rotate(x, cos, sin):
    """The first cos.shape[-1] components turn in halves, the rest pass."""
    turned, rest = x[..., :cos.shape[-1]], x[..., cos.shape[-1]:]
    half = cos.shape[-1] // 2
    turned = turned * cos + torch.cat((-turned[..., half:], turned[..., :half]), -1) * sin
    return torch.cat((turned, rest), -1) if rest.shape[-1] else turned
