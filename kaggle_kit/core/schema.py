"""The typed shape of a run's configuration: what each group in `params/` may say.

Every YAML below `params/` is checked against these classes, so an unknown key or a wrong type is
an error. `compose` in `config.py` fills a `RunConfig` from them. A field declares its legal values, its
bounds and the kinds of strategy that read it; `checks.py` holds every configuration against that.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from kaggle_kit.core.architectures import ARCHITECTURES
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.types import Access, Kind

MISSING: Any = "???"  # OmegaConf's own word for a value that must be given
NF4_ABOVE_PARAMETERS = 4_000_000_000
LARGEST_SEED = 2**32 - 1  # of NumPy's legacy generators
AUTO_LENGTH = re.compile(r"auto([5-9][0-9]|100)?")  # with the percentile
SPLITS = ("train", "dev", "test")
REPORTED = ("dev", "test")  # splits that a finished model may be scored on
FILES_OF = {  # official scorer -> the format of the files that it compares
    "semeval2014t7": "share_pipe",
    "semeval2015t14": "share_slots",
    "semeval2016t12": "anafora",
    "semeval2017t3": "cqa",
    "brat": "brat",
    "pubtator": "pubtator",
    "measeval": "measeval",
}
GENERAL = ("jsonl", "conll", "bigbio", "hf")  # without a scorer: what they hold is scored in another's files
GENERAL_SCORERS = ("brat", "semeval2017t3")  # those that take it: of mentions and relations, of rankings
FORMATS = (*FILES_OF.values(), *GENERAL)
STRATEGY_KINDS = ("single", "shared", "private", "shared_private", "hierarchical", "sequential")
HIERARCHICAL, SEQUENTIAL = ("hierarchical",), ("sequential",)
WITH_SHARED = tuple(kind for kind in STRATEGY_KINDS if kind != "private")
WHOLE = ("single", "shared")  # where one adapter takes all tokens, a whole backbone can stand in its place
WITH_PRIVATE = ("private", "shared_private", "sequential")


def words(allowed: Iterable[Any], default: Any = MISSING, kinds: Iterable[str] = STRATEGY_KINDS) -> Any:
    """Declare a field by its legal values; strategies of other `kinds` must leave it at its default."""
    return field(default=default, metadata={"allowed": tuple(allowed), "kinds": tuple(kinds)})


def number(default: Any = MISSING, kinds: Iterable[str] = STRATEGY_KINDS, **bounds: float) -> Any:
    """Declare a number by bounds: `least` and `most` are legal themselves, `above` and `below` are not."""
    return field(default=default, metadata={"bounds": bounds, "kinds": tuple(kinds)})


def quantization_for(parameters: int) -> str | None:
    """Return "nf4" for more than 4B parameters, None for fewer: the study's rule."""
    return "nf4" if parameters > NF4_ABOVE_PARAMETERS else None


@dataclass
class LoraSettings:
    """Low-rank adapters (Hu et al. 2022): rank, alpha, dropout and the modules that get one."""

    rank: int = number(16, least=1)
    alpha: int = number(32, least=1)
    dropout: float = number(0.05, least=0, below=1)
    targets: list[str] = field(default_factory=list)


@dataclass
class UnslothSettings:
    """Whether Unsloth can load the model."""

    compatible: bool = False


@dataclass
class ModelConfig:
    """A backbone. `path` overrides the hub with a local folder; `recipe` builds it on the spot."""

    name: str = MISSING
    title: str = MISSING
    hub_id: str | None = None
    revision: str | None = None
    path: str | None = None
    weights: str | None = None  # of a model named by its folder: a digest of its files
    recipe: str | None = None  # name of a local build (models/tiny.py) instead of a download
    family: str = words(("decoder", "encoder"))
    architecture: str = words(ARCHITECTURES)
    parameters: int = number(least=1)
    max_positions: int = number(least=1)
    lora: LoraSettings = field(default_factory=LoraSettings)
    gated: bool = False  # the hub asks for a licence click and a token
    unsloth: UnslothSettings = field(default_factory=UnslothSettings)


@dataclass
class ComponentConfig:
    """One prediction head of a task: its kind, level, labels and weight in the task's loss."""

    name: str = MISSING
    kind: str = words(Kind)
    level: int = words((1, 2))
    labels: list[str] = field(default_factory=list)  # empty: taken from the training split
    scheme: str = words(("BIO", "BIOES"), "BIO")
    loss_weight: float = number(1.0, least=0)
    max_span_length: int = number(8, least=1)  # words of the longest fragment that a span component can find
    attribute: str | None = None  # a relation to the document: the label is this attribute of a mention
    relation_type: str | None = None  # with relation_attribute: which relations carry it
    relation_attribute: str | None = None  # the label is this attribute of a relation, not its type


@dataclass
class PublishedResult:
    """A published score on the task, with its system and source, to compare with."""

    metric: str = MISSING
    value: float = MISSING
    system: str = ""
    source: str = ""
    gold_entities: bool = False  # measured with the gold entities given: a figure of an easier task


@dataclass
class HeldOut:
    """A split that the distribution lacks, cut from another by a hash of the document id."""

    source: str = "train"
    fraction: float = number(0.2, above=0, below=1)


@dataclass
class TaskConfig:
    """A task: its corpus, where the files lie, how they are split, and the heads that learn it."""

    name: str = MISSING
    title: str = MISSING
    reference: str = ""
    format: str = words(FORMATS)  # data/formats/<format>.py
    access: str = words(Access)
    licence: str = ""
    components: list[ComponentConfig] = field(default_factory=list)
    gold_entities: bool = False  # relations are predicted between the given mentions
    types: dict[str, str] = field(default_factory=dict)  # corpus's mention type -> the study's; others stay
    # split -> globs below the root; `split@B` holds instead where an option has the value B
    layout: dict[str, list[str]] = field(default_factory=dict)
    held_out: dict[str, HeldOut] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)  # for the reader
    segments: str = words(("sentences", "windows"), "sentences")
    scorer: str = words(FILES_OF)
    primary_metric: str = MISSING
    secondary_metrics: list[str] = field(default_factory=list)
    published_best: list[PublishedResult] = field(default_factory=list)
    trivial_baselines: list[PublishedResult] = field(default_factory=list)  # without a model; an F1's is 0
    shares_notes_with: list[str] = field(default_factory=list)  # tasks scored on its training notes
    obtain: str = ""  # the steps to get the corpus, shown when it is missing
    slugs: list[str] = field(default_factory=list)  # Kaggle dataset slugs probed under /kaggle/input
    # Documents of each split as published, of a ranking task questions, before anything is cut from a split.
    train_size: int | None = number(None, least=1)
    dev_size: int | None = number(None, least=1)
    test_size: int | None = number(None, least=1)
    contamination_risk: str = words(("low", "medium", "high", "unknown"), "unknown")  # a model has read it
    zero_shot_threshold: float | None = number(None, above=0, most=1)  # 70 % of the published best
    strict: bool = False  # one record that cannot be used is an error, instead of being reported and skipped
    path: str | None = None  # explicit place of the corpus


@dataclass
class StrategyConfig:
    """How the tasks share one backbone. A rank left empty follows the model's entry in params/."""

    name: str = MISSING
    title: str = MISSING
    kind: str = words(STRATEGY_KINDS)
    # Of tagging heads on decoders; ranking is causal.
    attention: str = words(("causal", "bidirectional"), "bidirectional")
    # Of the only or the shared adapter; empty: model.lora.rank.
    rank: int | None = number(None, WITH_SHARED, least=1)
    # Of a task's own adapter; empty: half of the shared rank, and under `private`, which has none, its rank.
    private_rank: int | None = number(None, WITH_PRIVATE, least=1)
    # Of the adapters of the entity level, and of relations and reasoning; empty: half of the rank.
    level1_rank: int | None = number(None, HIERARCHICAL, least=1)
    level2_rank: int | None = number(None, HIERARCHICAL, least=1)
    # How shared and private outputs combine.
    fusion: str = words(("none", "attention", "gated"), "none")
    fusion_rank: int = number(4, least=1)  # of the query and the key of attention
    cut: float = number(0.5, HIERARCHICAL, above=0, below=1)  # share of layers in the trunk below both levels
    cross_level: str = words(("attention", "concatenation"), "attention", HIERARCHICAL)
    cross_level_rank: int = number(16, HIERARCHICAL, least=1)
    # True: level-2 losses do not reach the level-1 adapter.
    detach_l1_for_l2: bool = field(default=False, metadata={"kinds": HIERARCHICAL})
    # The shared adapter in the second phase.
    adapt_shared: str = words(("frozen", "continued"), "frozen", SEQUENTIAL)
    pcgrad: bool = False
    # How opposing gradients are resolved where `pcgrad` is true; all but the first are ablations of it.
    conflict_resolution: str = words(("pcgrad", "ortho_lora", "upgrad"), "pcgrad")
    # Whose gradients are told apart where `pcgrad` is true: each task's, or each component's of a task.
    gradient_per: str = words(("task", "component"), "task")
    # static: by the components' loss_weight.
    loss_weighting: str = words(("equal", "static", "uncertainty"), "equal")
    sampling: str = words(("proportional", "uniform", "temperature"), "proportional")
    temperature: float = number(1.0, above=0)
    quantization: str | None = words(("none", "nf4"), None)  # empty: by the size of the model
    candidates: list[str] = field(default_factory=list)  # S5: strategies whose finished runs it chooses among
    unsloth: bool = False  # single and shared only, behind a consistency check


def filled_ranks(strategy: StrategyConfig, lora: LoraSettings) -> StrategyConfig:
    """Return the strategy with a number for every rank that its kind reads, the empty ones filled in."""
    rank = strategy.rank or lora.rank
    half = max(1, rank // 2)
    private = {"shared_private": half, "sequential": half, "private": rank}.get(strategy.kind)
    level = half if strategy.kind == "hierarchical" else None
    return replace(
        strategy,
        rank=None if strategy.kind == "private" else rank,
        private_rank=private and (strategy.private_rank or private),
        level1_rank=level and (strategy.level1_rank or level),
        level2_rank=level and (strategy.level2_rank or level),
    )


@dataclass
class ProfileConfig:
    """At what scale and on which corpora. Only `paper: true` may ever enter a paper table."""

    name: str = MISSING
    title: str = MISSING
    corpora: str = words(("practice", "public", "any"))
    paper: bool = False
    device: str = words(("auto", "cpu", "cuda"), "auto")
    precision: str = words(("auto", "float32", "float16"), "auto")
    max_train_samples: int | None = number(None, least=1)
    max_dev_samples: int | None = number(None, least=1)
    # Splits that the finished model is scored on.
    report: list[str] = field(default_factory=lambda: ["dev"], metadata={"allowed": REPORTED})


@dataclass
class TrainingConfig:
    """Hyper-parameters of the optimisation, batch sizes, and when a run is evaluated and saved."""

    learning_rate: float = number(1e-4, above=0)
    head_learning_rate: float | None = number(None, above=0)  # of the heads; empty: learning_rate
    # Of the loss weights, with strategy.loss_weighting=uncertainty.
    uncertainty_learning_rate: float = number(1e-2, above=0)
    epochs: float = number(5.0, above=0)
    max_steps: int | None = number(None, least=1)
    effective_batch: int = number(16, least=1)  # samples per optimiser step, whatever the micro-batch
    token_budget: int = 2048  # tokens per micro-batch; on a GPU the fastest one that fits is found instead,
    autobatch: bool = True  # unless this is false
    # Tokens per segment. auto: what the 99th percentile of the training sequences needs (auto95: the 95th).
    max_length: int | str = number(128, least=8)
    stride: int = number(32, least=0)  # tokens shared by neighbouring windows of one long segment
    warmup: float = number(0.05, least=0, below=1)  # share of the steps
    weight_decay: float = number(0.0, least=0)
    max_grad_norm: float = number(1.0, above=0)
    full_finetuning: bool = False  # every weight of the backbone trains, in float32, and there is no adapter
    # Of the backbone; empty: what the model itself declares. Where all of it trains, empty is the default.
    backbone_dropout: float | None = number(0.0, least=0, below=1)
    # Token-controlled: train to exactly so many, whatever the epochs.
    target_tokens: int | None = number(None, least=1)
    null_every: int = number(20, least=1)  # with PCGrad: every n-th step all tasks are halved for the null
    checkpoint_every: int = number(200, least=1)  # steps
    quick_every: int = number(200, least=1)  # steps between quick evaluations
    quick_samples: int = number(500, least=1)  # development samples of a quick evaluation
    # best: of the quick evaluations, which may stop the run; last: the last step.
    selection: str = words(("best", "last"), "best")
    report_to: str = words(("none", "wandb"), "none")  # who else sees the figures while they come
    # Epochs without a new best quick evaluation before the run stops; 0: never stops.
    patience: int = number(3, least=0)

    def passage_tokens(self) -> int:
        """Return max_length. Raises ConfigError where it is still to be decided."""
        if isinstance(self.max_length, str):
            why = "is decided where Experiment.open starts a run"
            raise ConfigError(f"training.max_length={self.max_length} {why}; give a number of tokens here")
        return self.max_length


@dataclass
class PracticeConfig:
    """The knobs of the synthetic corpora (data/practice)."""

    seed: int = number(7, least=0, most=LARGEST_SEED)
    documents: int = number(60, least=1)  # notes (or question threads) in the training split
    # Those in dev, and as many in test; empty: a third of the documents.
    held_out: int | None = number(None, least=1)
    transfer: str = words(("shared", "none", "conflicting"), "shared")
    lexicon_overlap: float = number(1.0, least=0, most=1)  # share of a task's terms that other tasks also use
    terms: int = number(120, least=5)  # invented terms per semantic class
    # Share of a task's terms that its training split shows; dev and test use all.
    coverage: float = number(0.6, least=0.05, most=1)
    noise: float = number(0.0, least=0, most=1)  # share of annotations with a random label


@dataclass
class RunConfig:
    """All that decides a run; the files of `params/` and the overrides fill it."""

    model: ModelConfig = field(default_factory=ModelConfig)
    tasks: dict[str, TaskConfig] = field(default_factory=dict)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    profile: ProfileConfig = field(default_factory=ProfileConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    practice: PracticeConfig = field(default_factory=PracticeConfig)
    experiment: dict[str, Any] = field(default_factory=dict)
    seed: int = 42


def plain_values(config: RunConfig) -> dict[str, Any]:
    """Return nested dicts, lists and scalars; empty values that follow another one are filled in."""
    strategy = filled_ranks(config.strategy, config.model.lora)
    strategy.quantization = strategy.quantization or quantization_for(config.model.parameters) or "none"
    training = replace(config.training)
    if training.full_finetuning:
        strategy.rank = None
    if training.head_learning_rate is None:
        training.head_learning_rate = training.learning_rate
    return asdict(replace(config, strategy=strategy, training=training))
