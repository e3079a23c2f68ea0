"""What the text and vision parts share: products in bfloat16, norms, rotary."""
import torch
import torch.nn.functional as F

PRODUCT = torch.bfloat16
EPS = 1e-6


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
