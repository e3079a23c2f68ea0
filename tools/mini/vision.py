"""The vision encoder for training, and the auxiliary reader that teaches it what patches show."""
import torch
import torch.nn as nn
import torch.nn.functional as F

from arithmetic import EPS, PRODUCT, linear, rotate

OBJECT_CLASSES = (10, 7, 9)  # colours, shapes, directions; 0 is none


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        width, self.heads = c["hidden_size"], c["num_heads"]
        self.norm1, self.norm2 = nn.LayerNorm(width, EPS), nn.LayerNorm(width, EPS)
        self.attn, self.mlp = nn.Module(), nn.Module()
        self.attn.qkv, self.attn.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp.linear_fc1 = nn.Linear(width, c["intermediate_size"])
        self.mlp.linear_fc2 = nn.Linear(c["intermediate_size"], width)

    def forward(self, x, cos, sin):
        """x [frame pairs, patches, width]"""
        n, patches, width = x.shape
        size = width // self.heads
        qkv = linear(self.norm1(x), self.attn.qkv.weight, self.attn.qkv.bias)
        q, k, v = qkv.view(n, patches, 3, self.heads, size).permute(2, 0, 3, 1, 4)
        q, k = rotate(q.float(), cos, sin) * size ** -0.5, rotate(k.float(), cos, sin)
        flat = lambda t: t.reshape(n * self.heads, patches, size).to(PRODUCT)
        weights = torch.bmm(flat(q), flat(k).transpose(1, 2)).float().softmax(-1).to(PRODUCT)
        o = torch.bmm(weights, flat(v)).view(n, self.heads, patches, size).transpose(1, 2).reshape(n, patches, width)
        x = x + linear(o, self.attn.proj.weight, self.attn.proj.bias)
        inner = linear(self.norm2(x), self.mlp.linear_fc1.weight, self.mlp.linear_fc1.bias).float()
        return x + linear(F.gelu(inner, approximate="tanh"), self.mlp.linear_fc2.weight, self.mlp.linear_fc2.bias)


class Merger(nn.Module):
    """Four patches to one row of the text's width. joined_first: the norm comes after joining (DeepStack)."""

    def __init__(self, width, out, joined_first):
        super().__init__()
        self.joined_first, self.joined = joined_first, 4 * width
        self.norm = nn.LayerNorm(4 * width if joined_first else width, EPS)
        self.linear_fc1, self.linear_fc2 = nn.Linear(4 * width, 4 * width), nn.Linear(4 * width, out)

    def forward(self, x):
        x = self.norm(x.reshape(-1, self.joined)) if self.joined_first else self.norm(x).reshape(-1, self.joined)
        inner = F.gelu(linear(x, self.linear_fc1.weight, self.linear_fc1.bias).float())
        return linear(inner, self.linear_fc2.weight, self.linear_fc2.bias).float()


class Vision(nn.Module):
    def __init__(self, c, deepstack, out):
        super().__init__()
        width = c["hidden_size"]
        self.deepstack, self.side, self.head_size = deepstack, int(c["num_position_embeddings"] ** 0.5), width // c["num_heads"]
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv3d(3, width, (2, 16, 16), (2, 16, 16))
        self.pos_embed = nn.Embedding(c["num_position_embeddings"], width)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["depth"]))
        self.merger = Merger(width, out, False)
        self.deepstack_merger_list = nn.ModuleList(Merger(width, out, True) for _ in deepstack)
        self.geometries = {}

    def geometry(self, rows, columns):
        """Interpolation matrix of the position table and rotary tables, for a grid in 2x2 block order."""
        if (rows, columns) not in self.geometries:
            from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids
            grid = torch.tensor([[1, rows, columns]])
            indices, weights = get_vision_interpolation_indices_and_weights(
                grid, num_grid_per_side=self.side, mode="bilinear", align_corners=True, spatial_merge_size=2)
            matrix = torch.zeros(rows * columns, self.side ** 2).scatter_add_(1, indices, weights.float())
            at = get_vision_position_ids(grid, 2).float()
            half = self.head_size // 2
            frequencies = 1 / (10000 ** (torch.arange(0, half, 2).float() / half))
            turns = torch.cat((at[:, :1] * frequencies, at[:, 1:] * frequencies), -1)
            turns = torch.cat((turns, turns), -1)
            device = self.pos_embed.weight.device
            self.geometries[rows, columns] = matrix.to(device), turns.cos().to(device), turns.sin().to(device)
        return self.geometries[rows, columns]

    def forward(self, pixels, grid):
        """pixels uint8 [B, pairs, patches, 1536] -> features and DeepStack levels [B, pairs * patches / 4, out]"""
        n, pairs, patches, _ = pixels.shape
        places, cos, sin = self.geometry(*grid[1:])
        scaled = pixels.view(n * pairs, patches, -1).to(PRODUCT) * (2 / 255) - 1
        x = linear(scaled, self.patch_embed.proj.weight.flatten(1), self.patch_embed.proj.bias).float()
        x, levels = x + places @ self.pos_embed.weight, []
        for i, block in enumerate(self.blocks):
            x = block(x, cos, sin)
            if i in self.deepstack:
                merger = self.deepstack_merger_list[self.deepstack.index(i)]
                levels.append(merger(x).view(n, pairs * patches // 4, -1))
        self.last = x.view(n, pairs, patches, -1)
        return self.merger(x).view(n, pairs * patches // 4, -1), levels


class PatchReader(nn.Module):
    """Training only, not in the checkpoint: names what each patch of the last block shows. Without it, shapes, places and
    characters are learnt many times more slowly."""

    def __init__(self, width, n_characters, cells):
        super().__init__()
        self.norm, self.n_characters = nn.LayerNorm(width), n_characters
        self.objects, self.characters = nn.Linear(width, sum(OBJECT_CLASSES)), nn.Linear(width, cells * n_characters)

    def loss(self, x, batch):
        x = self.norm(x)
        if batch.characters is not None:
            weights = torch.ones(self.n_characters, device=x.device)
            weights[0] = 0.1  # most cells are empty
            scores = linear(x, self.characters.weight, self.characters.bias).float()
            return F.cross_entropy(scores.view(-1, self.n_characters), torch.from_numpy(batch.characters).to(x.device).flatten(), weights)
        labels = torch.from_numpy(batch.objects).to(x.device).flatten(0, 2)
        weights = labels[:, 0].gt(0).float() * 0.8 + 0.2
        scores = linear(x, self.objects.weight, self.objects.bias).float().flatten(0, 2).split(OBJECT_CLASSES, -1)
        kinds = 3 if batch.is_clip else 2  # still pictures have no direction
        return sum((F.cross_entropy(scores[i], labels[:, i], reduction="none") * weights).sum() / weights.sum()
                   for i in range(kinds))
