"""How a layer combines its shared and its private adapter, token by token.

    fusion = AttentionFusion(shared_rank=16, private_rank=8, rank=4)
    bottleneck = fusion(bottleneck)     # (tokens, 24) -> (tokens, 24), both parts reweighted

Any linear map of an adapter's output B·A·x into few dimensions is a linear map of its bottleneck A·x.
So both fusions read the bottlenecks, side by side, and reweight them before B, at the cost of a few
hundred parameters per layer; AdapterFusion's full query, key and value would cost 20–40 times the adapters.

Both are convex combinations times two, so that equal weights are the plain sum, and start there exactly:
the side that would tell tokens apart starts at zero. So they also work from B = 0.
Parameters are float32, and so are the scores, under autocast too.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.models.segments import segment_linear

FUSIONS = ("none", "attention", "gated")


class Fusion(nn.Module, ABC):
    """2 · (weight · shared + (1 − weight) · private) on the bottleneck; the factor lets it start as the sum.

    `lean` = 2 · weight − 1 says where a token leans, so that the parts are scaled by 1 + lean and 1 − lean.
    """

    side: Tensor  # (shared_rank + private_rank,) 1 where shared, -1 where private

    def __init__(self, shared_rank: int, private_rank: int) -> None:
        super().__init__()
        side = torch.tensor([1.0] * shared_rank + [-1.0] * private_rank)
        self.register_buffer("side", side, persistent=False)

    def forward(self, bottleneck: Tensor) -> Tensor:
        """Weight both parts of the bottleneck, (..., shared_rank + private_rank); the shape stays."""
        return fuse([self], bottleneck, ())

    def lean(self, bottleneck: Tensor) -> Tensor:
        """Return each token's lean, (..., 1) in [-1, 1]: positive towards the shared adapter."""
        return self.lean_of(_read([self], bottleneck, ()))

    @abstractmethod
    def directions(self) -> list[Tensor]:
        """Return the matrices that read the bottleneck, (rows, shared_rank + private_rank) each."""

    @abstractmethod
    def lean_of(self, read: Tensor) -> Tensor:
        """Return the lean of a bottleneck by what its directions read, (..., directions)."""


class AttentionFusion(Fusion):
    """Softmax over the two adapters, scored by a query from both (cf. Pfeiffer et al. 2021, low-rank).

    A softmax over two needs the difference of their scores only, and the difference of two keys is
    linear in the bottleneck: `key` holds the shared adapter's key beside the negated private one.
    """

    def __init__(self, shared_rank: int, private_rank: int, rank: int) -> None:
        super().__init__(shared_rank, private_rank)
        self.query = nn.Parameter(torch.zeros(rank, shared_rank + private_rank))
        self.key = nn.Parameter(torch.empty(rank, shared_rank + private_rank))
        nn.init.kaiming_uniform_(self.key, a=5**0.5)  # as PEFT draws A

    def directions(self) -> list[Tensor]:
        """Return query and key."""
        return [self.query, self.key]

    def lean_of(self, read: Tensor) -> Tensor:
        """Return half the difference of the two scores, squashed."""
        query, key = read.chunk(2, -1)  # (..., rank) each
        difference = (query * key).sum(-1, keepdim=True) * len(self.query) ** -0.5
        return (difference / 2).tanh()


class GatedResidual(Fusion):
    """gate · shared + (1 − gate) · private with gate = sigmoid(W_g [shared; private]), one per token.

    W_g reads the bottlenecks, and has one row: directions of two bottlenecks have no order in common,
    so that a gate per direction would weigh the shared and the private one apart.
    """

    def __init__(self, shared_rank: int, private_rank: int) -> None:
        super().__init__(shared_rank, private_rank)
        self.gate = nn.Parameter(torch.zeros(1, shared_rank + private_rank))

    def directions(self) -> list[Tensor]:
        """Return W_g."""
        return [self.gate]

    def lean_of(self, read: Tensor) -> Tensor:
        """Return 2 · gate − 1."""
        return (read / 2).tanh()


def fuse(fusions: Sequence[Fusion], bottleneck: Tensor, sizes: Sequence[int]) -> Tensor:
    """Weight both parts of a row's bottleneck, (tokens, ranks); each of its segments has its own fusion."""
    with torch.autocast(bottleneck.device.type, enabled=False):  # products of float16 could overflow
        lean = fusions[0].lean_of(_read(fusions, bottleneck, sizes)).to(bottleneck.dtype)  # (..., 1)
    return torch.addcmul(bottleneck, bottleneck * fusions[0].side.to(bottleneck.dtype), lean)


def _read(fusions: Sequence[Fusion], bottleneck: Tensor, sizes: Sequence[int]) -> Tensor:
    """(tokens, directions)"""
    weights = [fusion.directions() for fusion in fusions]
    return segment_linear(bottleneck.to(weights[0][0].dtype), weights, sizes)


def build_fusion(kind: str, shared_rank: int, private_rank: int, rank: int) -> nn.Module | None:
    """Build the fusion of one layer, None for the plain sum (which is the concatenation of both ranks).

    `rank` is that of the query and the key of `attention`.
    """
    if kind not in FUSIONS:
        raise ConfigError(f"fusion is {kind!r}; allowed: {', '.join(FUSIONS)}")
    if kind == "none":
        return None
    if kind == "gated":
        return GatedResidual(shared_rank, private_rank)
    return AttentionFusion(shared_rank, private_rank, rank)


def fusion_parameters(kind: str, shared_rank: int, private_rank: int, rank: int) -> int:
    """Count the parameters of one layer's fusion, in closed form."""
    both = shared_rank + private_rank
    return {"none": 0, "attention": 2 * rank * both, "gated": both}[kind]
