"""Add LoRA adapters to one backbone, switch between them, and list the parameters of each.

    lora = SharedPrivateLoRA(backbone, settings, {"shared": 16, "private_ner": 8}, fusion="attention")
    with lora.using("shared", "private_ner"):
        ...

Everything stays PEFT's: parameters, names, files. Two habits of PEFT are kept out, because both lose
gradients without a word: `set_adapter` freezes what it switches off, and a checkpointed layer is
recomputed with whatever adapters are active by then. Here switching touches no parameter, and a
recompute runs with the adapters of its forward pass.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import LoraSettings
from kaggle_kit.heads.dropout import FastDropout
from kaggle_kit.models.fusion import build_fusion
from kaggle_kit.models.lora_layers import SharedInput, custom_layers, read_together
from kaggle_kit.models.segments import Segment

LINEAR = (nn.Linear, LoraLayer)  # bitsandbytes' layers are subclasses of nn.Linear
LAYER = r"\.(\d+)\."  # in the name of a module inside one of the backbone's numbered layers
SHARED = "shared"
BACKBONE = "backbone"  # the group of what trains of the backbone itself
PRIVATE = "private_"


def private(task: str) -> str:
    """Return the name of a task's own adapter."""
    return PRIVATE + task


class SharedPrivateLoRA(nn.Module):
    """Named adapters on a frozen backbone; those active together add up, or are fused.

    `ranks` maps adapter to rank; every adapter is scaled by the model's alpha / rank, so a rank is
    capacity and not step size. `only_layers` restricts an adapter to some of the backbone's layers.
    With a fusion, each private adapter is fused with the shared one. Raises ConfigError where a
    target matches no linear layer.
    """

    whole: Mapping[str, nn.Parameter] = {}  # what trains of the backbone itself, by its name there

    def __init__(
        self,
        backbone: PreTrainedModel,
        settings: LoraSettings,
        ranks: Mapping[str, int],
        *,
        fusion: str = "none",
        fusion_rank: int = 0,
        only_layers: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        check_targets(backbone, settings.targets)
        self.ranks = dict(ranks)
        self.scaling = settings.alpha / settings.rank
        self.fusion = fusion
        layers, every = only_layers or {}, whole_layers(backbone, settings.targets)
        configs = {name: lora_config(settings, rank, layers.get(name, every)) for name, rank in ranks.items()}
        self.peft: PeftModel | PreTrainedModel = _with_adapters(backbone, configs)
        self.layers = [module for module in self.peft.modules() if isinstance(module, LoraLayer)]
        self._active: list[str] = []
        self._input = SharedInput()
        for layer in self.layers:
            layer._active_adapter = self._active  # one list for all layers: a switch is one assignment
            layer.shared_input = self._input
            for name, dropout in layer.lora_dropout.items():
                if isinstance(dropout, nn.Dropout):  # PEFT has an identity where there is none
                    layer.lora_dropout[name] = FastDropout(dropout.p)
            for name in layer.lora_A if SHARED in self.ranks else ():
                module = build_fusion(fusion, self.ranks[SHARED], self.ranks[name], fusion_rank)
                if name.startswith(PRIVATE) and module is not None:
                    layer.fusion[name] = module.to(layer.lora_A[name].weight)
        for name in self.ranks:  # PEFT freezes all but the first
            for parameter in (*self.parameters_of(name), *self.fusion_of(name)):
                parameter.requires_grad_(True)
        read_together(self.peft)
        self.activate(next(iter(self.ranks)))
        if any(getattr(module, "gradient_checkpointing", False) for module in backbone.modules()):
            enable_checkpointing(backbone, self._contexts)

    @property
    def base(self) -> PreTrainedModel:
        """Return the backbone with the adapters in its layers, without PEFT's own forward."""
        return self.peft.get_base_model() if isinstance(self.peft, PeftModel) else self.peft

    @property
    def active(self) -> tuple[str, ...]:
        """Return the names of the adapters that take part in the next forward pass."""
        return tuple(self._active)

    def activate(self, *names: str) -> None:
        """Let exactly these adapters take part in the next forward pass; freeze and thaw nothing."""
        unknown = [name for name in names if name not in self.ranks]
        if unknown:
            raise ConfigError(f"no adapter {', '.join(unknown)}; there are {', '.join(self.ranks)}")
        self._active[:] = names
        self._input.segments = ()
        self._input.forget()

    def using(self, *names: str) -> AbstractContextManager[None]:
        """Activate the adapters inside a block; afterwards those before it are active again."""
        return _Using(self, names, ())

    def using_segments(self, segments: Sequence[Segment]) -> AbstractContextManager[None]:
        """Let each segment of the row that is read inside a block pass through its own adapters."""
        names = tuple(dict.fromkeys(name for segment in segments for name in segment.adapters))
        alike = all(segment.adapters == names and not segment.leaves for segment in segments)
        return _Using(self, names, () if alike else tuple(segments))

    def checkpoint_layers(self, count: int) -> None:
        """Recompute the first `count` layers in the backward pass, and keep the states of the others."""
        backbone = self.base
        if count:
            enable_checkpointing(backbone, self._contexts)
        layers = [module for module in backbone.modules() if isinstance(module, GradientCheckpointingLayer)]
        for number, layer in enumerate(layers):
            layer.gradient_checkpointing = number < count

    def parameters_of(self, adapter: str) -> list[nn.Parameter]:
        """List A and B of one adapter, layer by layer."""
        layers = [layer for layer in self.layers if adapter in layer.lora_A]
        return [part[adapter].weight for layer in layers for part in (layer.lora_A, layer.lora_B)]

    def fusion_of(self, adapter: str) -> list[nn.Parameter]:
        """List the parameters that fuse this adapter with the shared one; none without a fusion."""
        fusions = [layer.fusion[adapter] for layer in self.layers if adapter in layer.fusion]
        return [parameter for module in fusions for parameter in module.parameters()]

    def _contexts(self) -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), _Using(self, self.active, self._input.segments)


class _Using:
    def __init__(self, lora: SharedPrivateLoRA, names: Iterable[str], segments: tuple[Segment, ...]) -> None:
        self.lora, self.wanted = lora, (tuple(names), segments)

    def __enter__(self) -> None:
        self.before = self.lora.active, self.lora._input.segments
        self._set(*self.wanted)

    def __exit__(self, *_: object) -> None:
        self._set(*self.before)

    def _set(self, names: tuple[str, ...], segments: tuple[Segment, ...]) -> None:
        self.lora.activate(*names)
        self.lora._input.segments = segments


def enable_checkpointing(backbone: PreTrainedModel, contexts: Callable | None = None) -> None:
    """Turn on non-reentrant checkpointing; frozen inputs then need no `enable_input_require_grads`.

    `contexts` gives the contexts of the forward pass and of its recompute (torch's `context_fn`).
    """
    options = {"use_reentrant": False} | ({"context_fn": contexts} if contexts else {})
    enable = getattr(backbone, "activation_checkpointing_enable", None)  # its name since transformers 5.20
    (enable or backbone.gradient_checkpointing_enable)(options)


def _with_adapters(backbone: PreTrainedModel, configs: Mapping[str, LoraConfig]) -> PeftModel:
    first, *others = configs
    with warnings.catch_warnings():  # PEFT, 0.21 still, reads a property that transformers 5.20 has renamed
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        model = get_peft_model(backbone, configs[first], adapter_name=first)
    for name in others:
        model.add_adapter(name, configs[name])
    return model


def lora_config(settings: LoraSettings, rank: int, layers: Sequence[int] | None = None) -> LoraConfig:
    """Return the PEFT configuration of an adapter of this rank, on all layers or some of them.

    `task_type` stays unset: heads live outside PEFT, whose `modules_to_save` bars two active adapters.
    """
    targets: list[str] | str = list(settings.targets)
    if layers is not None:
        numbers = "|".join(map(str, layers))
        targets = rf"(.*\.)?\w+\.({numbers})\.(.*\.)?({'|'.join(settings.targets)})"
    alpha = settings.alpha * rank / settings.rank
    alpha = int(alpha) if alpha.is_integer() else alpha
    dropout = settings.dropout
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets, bias="none")
    config._register_custom_module(custom_layers())
    return config


def whole_layers(backbone: nn.Module, targets: Sequence[str]) -> range | None:
    """Return all numbers of layers where targets match outside them too, as `dense` does a BERT's pooler.

    What lies outside reads and changes no hidden state, so an adapter there would train nothing.
    """
    names = [name for name, module in backbone.named_modules() if isinstance(module, LINEAR)]
    if all(re.search(LAYER, name) for name in names if name.rpartition(".")[2] in targets):
        return None
    return range(1 + max(int(found[1]) for name in names if (found := re.search(LAYER, name))))


def check_targets(backbone: nn.Module, targets: Sequence[str]) -> None:
    """Raise ConfigError unless every target matches a layer; PEFT accepts a list that matches in part."""
    modules = backbone.named_modules()
    inside = [name for name, one in modules if isinstance(one, LINEAR) and re.search(LAYER, name)]
    linear = {name.rpartition(".")[2] for name in inside}
    if not targets:
        raise ConfigError(f"lora.targets is empty; this backbone has {', '.join(sorted(linear))}")
    if missing := [target for target in targets if target not in linear]:
        raise ConfigError(
            f"lora.targets {', '.join(missing)}: no such linear layer in {type(backbone).__name__}; "
            f"it has {', '.join(sorted(linear))} (a list that matches in part would train only that part)"
        )
