"""The typed shape of a run's configuration: what each group in `params/` may say.

Every YAML below `params/` is checked against these classes, so an unknown key or a wrong type is
an error. `compose` in `config.py` fills a `RunConfig` from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from omegaconf import MISSING

NF4_ABOVE_PARAMETERS = 4_000_000_000


def quantization_for(parameters: int) -> str | None:
    """The study's rule: more than 4B parameters are loaded in NF4, the others are not quantised."""
    return "nf4" if parameters > NF4_ABOVE_PARAMETERS else None


@dataclass
class LoraSettings:
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    targets: list[str] = field(default_factory=list)


@dataclass
class UnslothSettings:
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
    family: str = MISSING  # decoder | encoder
    architecture: str = MISSING  # core/architectures.py
    parameters: int = MISSING
    max_positions: int = MISSING
    lora: LoraSettings = field(default_factory=LoraSettings)
    gated: bool = False  # the hub asks for a licence click and a token
    unsloth: UnslothSettings = field(default_factory=UnslothSettings)


@dataclass
class ComponentConfig:
    name: str = MISSING
    kind: str = MISSING  # core.types.Kind
    level: int = MISSING
    labels: list[str] = field(default_factory=list)  # empty: taken from the training split
    scheme: str = "BIO"
    loss_weight: float = 1.0
    max_span_length: int = 8  # words of the longest fragment that a span component can find
    attribute: str | None = None  # a relation to the document: the label is this attribute of a mention
    relation_type: str | None = None  # with relation_attribute: which relations carry it
    relation_attribute: str | None = None  # the label is this attribute of a relation, not its type


@dataclass
class PublishedResult:
    metric: str = MISSING
    value: float = MISSING
    system: str = ""
    source: str = ""
    gold_entities: bool = False  # measured with the gold entities given: a figure of an easier task


@dataclass
class HeldOut:
    """A split that the distribution lacks, cut from another by a hash of the document id."""

    source: str = "train"
    fraction: float = 0.2


@dataclass
class TaskConfig:
    name: str = MISSING
    title: str = MISSING
    reference: str = ""
    format: str = MISSING  # data/formats/<format>.py
    access: str = MISSING  # public | restricted
    licence: str = ""
    components: list[ComponentConfig] = field(default_factory=list)
    gold_entities: bool = False  # relations are predicted between the given mentions
    types: dict[str, str] = field(default_factory=dict)  # corpus's mention type -> the study's; others stay
    # split -> globs below the root; `split@B` holds instead where an option has the value B
    layout: dict[str, list[str]] = field(default_factory=dict)
    held_out: dict[str, HeldOut] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)  # for the reader
    segments: str = "sentences"  # sentences | windows
    scorer: str = MISSING
    primary_metric: str = MISSING
    secondary_metrics: list[str] = field(default_factory=list)
    published_best: list[PublishedResult] = field(default_factory=list)
    trivial_baselines: list[PublishedResult] = field(default_factory=list)  # without a model; an F1's is 0
    shares_notes_with: list[str] = field(default_factory=list)  # tasks scored on its training notes
    obtain: str = ""  # the steps to get the corpus, shown when it is missing
    slugs: list[str] = field(default_factory=list)  # Kaggle dataset slugs probed under /kaggle/input
    strict: bool = False  # one record that cannot be used is an error, instead of being reported and skipped
    path: str | None = None  # explicit place of the corpus


@dataclass
class StrategyConfig:
    """How the tasks share one backbone. A rank left empty follows the model's entry in params/."""

    name: str = MISSING
    title: str = MISSING
    kind: str = MISSING  # single | shared | private | shared_private | hierarchical | sequential
    attention: str = "bidirectional"  # bidirectional | causal: tagging heads on decoders; ranking is causal
    rank: int | None = None  # of the only or the shared adapter; empty: model.lora.rank
    # Of a task's own adapter; empty: half of the shared rank, and under `private`, which has none, its rank.
    private_rank: int | None = None
    level1_rank: int | None = None  # hierarchical: of the entity level's adapter; empty: half of the rank
    level2_rank: int | None = None  # hierarchical: of the adapter of relations and reasoning, likewise
    fusion: str = "none"  # none | attention | gated: how shared and private outputs combine
    fusion_rank: int = 4  # of the query and the key of attention
    cut: float = 0.5  # hierarchical: share of the layers in the trunk below both levels
    cross_level: str = "attention"  # attention | concatenation
    cross_level_rank: int = 16
    detach_l1_for_l2: bool = False  # true: level-2 losses do not reach the level-1 adapter
    adapt_shared: str = "frozen"  # frozen | continued: the shared adapter in the second phase of sequential
    pcgrad: bool = False
    loss_weighting: str = "equal"  # equal | static (the components' loss_weight) | uncertainty
    sampling: str = "proportional"  # proportional | uniform | temperature
    temperature: float = 1.0
    quantization: str | None = None  # none | nf4; empty: by the size of the model
    candidates: list[str] = field(default_factory=list)  # S5: strategies whose finished runs it chooses among
    unsloth: bool = False  # single and shared only, behind a consistency check


def filled_ranks(strategy: StrategyConfig, lora: LoraSettings) -> StrategyConfig:
    """The strategy with a number for every rank that its kind reads, whether it was left empty or not."""
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
    corpora: str = MISSING  # practice | public | any
    paper: bool = False
    device: str = "auto"  # auto | cpu | cuda
    precision: str = "auto"  # auto | float32 | float16
    max_train_samples: int | None = None
    max_dev_samples: int | None = None
    report: list[str] = field(default_factory=lambda: ["dev"])  # splits that the finished model is scored on


@dataclass
class TrainingConfig:
    learning_rate: float = 1e-4
    head_learning_rate: float | None = None  # of the heads; empty: learning_rate
    uncertainty_learning_rate: float = 1e-2  # of the loss weights, with strategy.loss_weighting=uncertainty
    epochs: float = 5.0
    max_steps: int | None = None
    effective_batch: int = 16  # samples per optimiser step, whatever the micro-batch
    token_budget: int = 2048  # tokens per micro-batch; on a GPU the fastest one that fits is found instead,
    autobatch: bool = True  # unless this is false
    max_length: int = 128  # tokens per segment
    stride: int = 32  # tokens shared by neighbouring windows of one long segment
    warmup: float = 0.05  # share of the steps
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    backbone_dropout: float | None = 0.0  # of the frozen layers; empty: what the model itself declares
    target_tokens: int | None = None  # token-controlled: train to exactly so many, whatever the epochs
    null_every: int = 20  # with PCGrad: every n-th step all tasks are halved for the conflict null
    checkpoint_every: int = 200  # steps
    quick_every: int = 200  # steps between quick evaluations
    quick_samples: int = 500  # development samples of a quick evaluation
    selection: str = "best"  # best (of the quick evaluations, which may stop the run) | last (step)
    report_to: str = "none"  # none | wandb: who else sees the figures while they come
    patience: int = 3  # epochs without a new best quick evaluation before the run stops; 0: never stops


@dataclass
class PracticeConfig:
    """The knobs of the synthetic corpora (data/practice)."""

    seed: int = 7
    documents: int = 60  # notes (or question threads) in the training split
    held_out: int | None = None  # those in dev, and as many in test; empty: a third of the documents
    transfer: str = "shared"  # shared | none | conflicting
    lexicon_overlap: float = 1.0  # share of a task's terms that other tasks also use
    terms: int = 120  # invented terms per semantic class
    coverage: float = 0.6  # share of a task's terms that its training split shows; dev and test use all
    noise: float = 0.0  # share of annotations with a random label


@dataclass
class RunConfig:
    model: ModelConfig = field(default_factory=ModelConfig)
    tasks: dict[str, TaskConfig] = field(default_factory=dict)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    profile: ProfileConfig = field(default_factory=ProfileConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    practice: PracticeConfig = field(default_factory=PracticeConfig)
    experiment: dict[str, Any] = field(default_factory=dict)
    seed: int = 42
