"""Compare a backbone with the library before anything trains: the same states, or a ConfigError.

    verify_reading(backbone, causal=True)       # at load: sequences packed, against each alone
    verify_stages(model.stages, causal=True)    # with a hierarchy: cut in two, against whole

Both return the largest difference of any token's hidden state, relative to that state. They leave the
random generators, the modes of all modules and all gradients as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import peft
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.types import WHOLE, Prefix
from kaggle_kit.models.packing import PackedLayout
from kaggle_kit.models.reading import Reader, Stages, usable_positions

EXACT, HALF = 1e-3, 0.05  # largest relative difference, in float32 and in half precision or 4-bit
LENGTHS = (9, 7, 4)  # tokens
WIDEST_WINDOW = 300  # tokens; sliding windows up to here are crossed by one sequence
SHARED = 3  # tokens with which the first and the last sequence begin
ADVICE = "nothing was trained; choose a model, a strategy and versions of the table in docs/models.md"
FAILURES = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Probe:
    """A few short sequences of random tokens, as one micro-batch. Ids and types are (tokens,)."""

    input_ids: Tensor
    type_ids: Tensor
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, backbone: PreTrainedModel) -> Probe:
        """Draw three sequences within the backbone's positions that cross its narrow sliding windows."""
        most = usable_positions(backbone) or WIDEST_WINDOW
        windows = {getattr(module, "sliding_window", None) for module in backbone.modules()}
        crossed = [one + LENGTHS[0] for one in windows if isinstance(one, int) and 0 < one <= WIDEST_WINDOW]
        lengths = tuple(min(one, most) for one in (max(crossed, default=LENGTHS[0]), *LENGTHS[1:]))
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(1, backbone.config.vocab_size, (sum(lengths),), generator=generator)
        # padding among the tokens would have no position where those are counted from the padding's
        ids[ids == getattr(backbone.config, "pad_token_id", None)] = backbone.config.vocab_size - 1
        ids[sum(lengths[:-1]) :][:SHARED] = ids[:SHARED]
        types = torch.cat([torch.arange(length) >= length // 2 for length in lengths]).long()
        return cls(ids.to(backbone.device), types.to(backbone.device), lengths)

    def layout(self, *, causal: bool, shared: bool = False) -> PackedLayout:
        """Lay the probe out as one row; with `shared`, the common beginning of its sequences is read once."""
        prefixes = [WHOLE] * (len(self.lengths) - 1) + [Prefix(0, SHARED) if shared else WHOLE]
        return PackedLayout.of(self.lengths, causal=causal, prefixes=prefixes, device=self.input_ids.device)


def verify_reading(backbone: PreTrainedModel, *, causal: bool, name: str | None = None) -> float:
    """Return the largest relative difference between sequences read together and each by itself.

    `causal`: whether the architecture looks backwards only; then a shared beginning is tried as well.
    Raises ConfigError where they differ.
    """
    reader, probe, who = Reader(backbone), Probe.of(backbone), _described(backbone, name)
    with probing(backbone):
        alone = _states(who, "the library's own forward", lambda: _alone(reader, probe))
        if not alone.isfinite().all():
            raise ConfigError(
                f"{who}: the library's own hidden states are not finite in {_dtype(backbone)}; "
                "set profile.precision=float32, or choose another model"
            )
        differences = []
        for shared in (False, True) if causal and reader.packs else (False,):
            layout = probe.layout(causal=causal, shared=shared)
            what = f"{'packed' if reader.packs else 'padded'} sequences against each alone"
            together = _states(who, what, partial(reader.batch_states, probe, layout))
            differences.append(_difference(backbone, f"{who}: {what}", together, alone))
    return max(differences)


def verify_stages(stages: Stages, *, causal: bool, name: str | None = None) -> float:
    """Return the largest relative difference between a backbone cut in two and whole. Raises ConfigError."""
    reader, what = stages.reader, f"the layers cut at {stages.cut} against the whole"
    backbone, who = reader.backbone, _described(reader.backbone, name)
    probe = Probe.of(backbone)
    layout = probe.layout(causal=causal)
    with probing(backbone):
        whole = _states(who, "the library's own forward", lambda: reader(probe, layout))
        cut = _states(who, what, lambda: stages.upper(stages.lower(probe, layout), probe, layout))
        return _difference(backbone, f"{who}: {what}", cut, whole)


def _alone(reader: Reader, probe: Probe) -> Tensor:
    """(tokens, hidden): one sequence a call, without the packed attention."""
    backbone, states, start = reader.backbone, [], 0
    attention = backbone.config._attn_implementation
    backbone.set_attn_implementation("eager" if reader.packs else attention)
    try:
        for length in probe.lengths:
            place = slice(start, start := start + length)
            inputs = {"input_ids": probe.input_ids[None, place]}
            if reader.types:
                types = probe.type_ids[None, place]
                inputs["token_type_ids"] = types if reader.types > 1 else torch.zeros_like(types)
            states.append(backbone(**inputs).last_hidden_state[0])
    finally:
        backbone.set_attn_implementation(attention)
    return torch.cat(states)


@contextmanager
def probing(backbone: PreTrainedModel) -> Iterator[None]:
    """Turn gradients and dropout off inside the block."""
    modes = {module: module.training for module in backbone.modules()}
    backbone.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _states(who: str, what: str, read: Callable[[], Tensor]) -> Tensor:
    """(tokens, hidden) float32. ConfigError for what an unknown architecture may raise."""
    try:
        return read().float()
    except torch.cuda.OutOfMemoryError:
        raise
    except FAILURES as error:
        reason = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        raise ConfigError(f"{who}: {what} failed ({reason}); {ADVICE}") from error


def _difference(backbone: PreTrainedModel, what: str, states: Tensor, reference: Tensor) -> float:
    far = float(((states - reference).norm(dim=-1) / reference.norm(dim=-1).clamp_min(1e-12)).max())
    exact = backbone.dtype == torch.float32 and not getattr(backbone, "is_quantized", False)
    allowed = EXACT if exact else HALF
    if not far <= allowed:  # NaN is far
        raise ConfigError(
            f"{what}: hidden states differ by up to {far:.2g} "
            f"(relative; allowed in {_dtype(backbone)}: {allowed:g}); {ADVICE}"
        )
    return far


def _described(backbone: PreTrainedModel, name: str | None) -> str:
    versions = ", ".join(f"{one.__name__} {one.__version__}" for one in (transformers, peft, torch))
    who = f"model {name}, " if name else ""
    return f"{who}{type(backbone).__name__} ({backbone.config.model_type}) under {versions}"


def _dtype(backbone: PreTrainedModel) -> str:
    return str(backbone.dtype).removeprefix("torch.")
