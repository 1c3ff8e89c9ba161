"""How a layer combines its shared and its private adapter, token by token.

    fusion = AttentionFusion(shared_rank=16, private_rank=8, rank=4)
    bottleneck = fusion(bottleneck)     # (tokens, 24) -> (tokens, 24), both parts reweighted

Any linear map of an adapter's output B·A·x into few dimensions is a linear map of its bottleneck A·x.
So both fusions read the bottlenecks, side by side, and reweight them before B, at the cost of a few
hundred parameters per layer; AdapterFusion's full query, key and value would cost 20–40 times the adapters.

Both start as the plain sum exactly: their weights are scaled to average one, and the side that would
tell tokens apart starts at zero. So they also work from B = 0, where nothing could be told apart yet.
Parameters are float32, and so are the scores, under autocast too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kaggle_kit.core.errors import ConfigError

FUSIONS = ("none", "attention", "gated")


class AttentionFusion(nn.Module):
    """Softmax over the two adapters, scored by a query from both (cf. Pfeiffer et al. 2021, low-rank).

    A softmax over two needs the difference of their scores only, and the difference of two keys is
    linear in the bottleneck: `key` holds the shared adapter's key beside the negated private one.
    Twice the softmax is then 1 + lean and 1 − lean with lean = tanh(difference / 2).
    """

    def __init__(self, shared_rank: int, private_rank: int, rank: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(rank, shared_rank + private_rank))
        self.key = nn.Parameter(torch.empty(rank, shared_rank + private_rank))
        nn.init.kaiming_uniform_(self.key, a=5**0.5)  # as PEFT draws A
        side = torch.tensor([1.0] * shared_rank + [-1.0] * private_rank)
        self.register_buffer("side", side, persistent=False)

    def forward(self, bottleneck: Tensor) -> Tensor:
        """(..., shared_rank + private_rank) -> the same shape, both parts weighted"""
        lean = self.lean(bottleneck).to(bottleneck.dtype)  # (..., 1)
        return torch.addcmul(bottleneck, bottleneck * self.side.to(bottleneck.dtype), lean)

    def lean(self, bottleneck: Tensor) -> Tensor:
        """(..., 1) in [-1, 1]: towards the shared adapter where positive, the private one where negative"""
        with torch.autocast(bottleneck.device.type, enabled=False):  # products of float16 could overflow
            both = F.linear(bottleneck.to(self.query.dtype), torch.cat([self.query, self.key]))
            query, key = both.chunk(2, -1)  # (..., rank) each
            difference = (query * key).sum(-1, keepdim=True) * len(self.query) ** -0.5
            return (difference / 2).tanh()


class GatedResidual(nn.Module):
    """shared + gate ⊙ private, a sigmoid gate per private direction; with rank 0 one gate per layer.

    The gate is 2 · sigmoid, so that it starts at one and may both close and amplify.
    """

    def __init__(self, shared_rank: int, private_rank: int, rank: int) -> None:
        super().__init__()
        self.shared_rank = shared_rank
        self.rank = rank
        self.bias = nn.Parameter(torch.zeros(1))
        if rank:
            self.down = nn.Parameter(torch.empty(rank, shared_rank + private_rank))
            self.up = nn.Parameter(torch.zeros(private_rank, rank))
            nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, bottleneck: Tensor) -> Tensor:
        """(..., shared_rank + private_rank) -> the same shape, the private part gated"""
        gate = 2 * self.logits(bottleneck).sigmoid().to(bottleneck.dtype)
        shared, private = bottleneck[..., : self.shared_rank], bottleneck[..., self.shared_rank :]
        return torch.cat([shared, private * gate], -1)

    def logits(self, bottleneck: Tensor) -> Tensor:
        """(..., private_rank), or (1,) where the layer has a single gate"""
        if not self.rank:
            return self.bias
        with torch.autocast(bottleneck.device.type, enabled=False):
            return F.linear(F.linear(bottleneck.to(self.bias.dtype), self.down), self.up) + self.bias


def build_fusion(kind: str, shared_rank: int, private_rank: int, rank: int) -> nn.Module | None:
    """The fusion of one layer, None for the plain sum (which is the concatenation of both ranks)."""
    if kind not in FUSIONS:
        raise ConfigError(f"fusion is {kind!r}; allowed: {', '.join(FUSIONS)}")
    if kind == "none":
        return None
    return {"attention": AttentionFusion, "gated": GatedResidual}[kind](shared_rank, private_rank, rank)


def fusion_parameters(kind: str, shared_rank: int, private_rank: int, rank: int) -> int:
    """Parameters of one layer's fusion, in closed form."""
    both = shared_rank + private_rank
    return {"none": 0, "attention": 2 * rank * both, "gated": rank * (both + private_rank) + 1}[kind]
