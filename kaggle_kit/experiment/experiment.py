"""The object that everything opens through: one run, from its configuration to its manifest.

    exp = Experiment.open("s3a_flat", model="tiny", task="semeval2014t7,semeval2021t6")
    exp.train()         # resume or start, auto-batch, smoke gate, training
    exp.evaluate()      # official predictions and scores
    exp.finish()        # adapters, then the manifest, which is written last

Every part is made when it is first asked for and kept; a page may put its own in place of it (a model built
in the open, the plan of a control). There is no logic here: each part is one call of a function below, which
takes the experiment and can be tested without this class.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch

from kaggle_kit.batches.batch import MicroBatch, PlanDataset, Step
from kaggle_kit.batches.encoded import EncodedTask
from kaggle_kit.batches.plan import StepPlan
from kaggle_kit.core.artifacts import Metric, RunFolder
from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import KitError
from kaggle_kit.core.restricted import hide_values
from kaggle_kit.core.runs import start_run
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.core.types import TaskSpec, UnifiedSample
from kaggle_kit.data.corpus import Corpus
from kaggle_kit.data.normalise import concept_names
from kaggle_kit.evaluation.texts import Text
from kaggle_kit.experiment import preparation, scoring
from kaggle_kit.experiment.controlled_variables import scored_config
from kaggle_kit.experiment.manifest import record_run
from kaggle_kit.experiment.new_text import text_reader
from kaggle_kit.experiment.preparation import Samples, settle_max_length
from kaggle_kit.experiment.startup import Finding, check_startup
from kaggle_kit.experiment.training_session import Phase, Session, run_session
from kaggle_kit.models.adapter_files import save_adapters
from kaggle_kit.models.adapters import BACKBONE
from kaggle_kit.models.build import build_model
from kaggle_kit.models.decisions import Decision
from kaggle_kit.models.loading import Loaded
from kaggle_kit.models.multitask import MultiTaskModel


class Experiment:
    """One run and everything that it is made of.

    `config` is its checked configuration and `run` its folder. `scored` is the configuration of the tasks
    that are evaluated: all of them, unless the experiment says otherwise.
    """

    def __init__(self, config: RunConfig, run: RunFolder | None = None) -> None:
        self.config = config
        if run is not None:
            self.run = run
            if run.facts.get("flags", {}).get("restricted"):
                hide_values()  # the user's own IPython profile may print whole notes with an error
        self.scored_config = scored_config(config)
        self.metrics: list[Metric] = []
        self.decided: dict[str, Decision] = {}  # before the run was started
        self._samples: dict[str, dict[str, tuple[UnifiedSample, ...]]] = {}

    @classmethod
    def open(
        cls,
        page: str,
        *,
        model: str = "tiny",
        task: str,
        strategy: str = "s1_single",
        profile: str = "smoke",
        seed: int = 42,
        overrides: Sequence[str] = (),
        runs_dir: Path | str = "runs",
        run_dir: Path | str = "",
        settle: Callable[[RunConfig], RunConfig] = lambda config: config,
    ) -> "Experiment":
        """Compose the configuration, check it, and open the run's folder, a new one or one that goes on.

        `task` holds names with commas between. `settle` makes the final configuration of what was asked for,
        where the page reads it off other runs.
        Raises ConfigError with everything that is wrong, and RunFolderError for a folder of another run.
        """
        asked = compose(model, task.split(","), strategy, profile, overrides=list(overrides), seed=seed)
        config, opened = settle(asked), {}
        if isinstance(config.training.max_length, str):
            corpora = preparation.open_corpora(config)
            config, decided = settle_max_length(config, corpora)
            opened = {"corpora": corpora, "decided": {"max_length": decided}}
        exp = cls(config, start_run(config, page=page, runs_dir=runs_dir, run_dir=run_dir, asked=asked))
        vars(exp).update(opened)
        return exp

    @cached_property
    def run(self) -> RunFolder:
        """The run's folder. Raises KitError for an experiment that was made without one."""
        raise KitError("this experiment has no run folder; open it by Experiment.open, or give it one")

    @cached_property
    def startup(self) -> list[Finding]:
        """The findings on this machine. Raises StartupError where it cannot carry the run."""
        return check_startup(self.config, self.run)

    @cached_property
    def corpora(self) -> Mapping[str, Corpus]:
        """Task -> corpus, with the splits that are trained on, chosen on and reported."""
        return preparation.open_corpora(self.config)

    @property
    def data_hashes(self) -> dict[str, str]:
        """Task -> the SHA-256 of its corpus."""
        return {name: corpus.sha256 for name, corpus in self.corpora.items()}

    @cached_property
    def specs(self) -> dict[str, TaskSpec]:
        """Task -> what the model must know of it."""
        return preparation.task_specs(self)

    def samples(self, split: str = "train") -> dict[str, tuple[UnifiedSample, ...]]:
        """Return a split of every task, cut to the profile's limit."""
        if split not in self._samples:
            self._samples[split] = preparation.split_samples(self, split)
        return self._samples[split]

    @cached_property
    def backbone(self) -> Loaded:
        """The backbone with the decisions on device, precision and attention, and their reasons."""
        torch.manual_seed(self.config.seed)
        backbone = preparation.open_backbone(self.config)
        backbone.decisions.update(self.decided)
        return backbone

    def encode(self, samples: Samples) -> dict[str, EncodedTask]:
        """Return the token files of some tasks' samples."""
        tasks = {name: (self.config.tasks[name], self.specs[name], found) for name, found in samples.items()}
        return {name: preparation.encode_samples(self, *parts) for name, parts in tasks.items()}

    @cached_property
    def encoded(self) -> Mapping[str, EncodedTask]:
        """The training split of every task as token files."""
        return self.encode(self.samples())

    @cached_property
    def plan(self) -> StepPlan:
        """Every optimiser step, before the first one is taken."""
        return preparation.plan_training(self.config, self.encoded)

    def step(self, number: int | None = None) -> Step:
        """Return an optimiser step's micro-batches on the model's device; by default one with most tasks."""
        if number is None:
            number = max(range(len(self.plan)), key=lambda place: len(self.plan.steps[place].tokens))
        return PlanDataset(self.plan, self.encoded)[number].to(self.model.backbone.device)

    def batches(self, split: str, samples: int) -> dict[str, list[MicroBatch]]:
        """Return a few samples of every task as micro-batches, to look into the model with."""
        return preparation.few_batches(self, split, samples)

    @cached_property
    def model(self) -> MultiTaskModel:
        """The trainable model of the strategy, unless the page has put its own here."""
        return build_model(self.backbone, self.specs.values(), self.config.strategy)

    @cached_property
    def quick(self) -> Callable[[], Mapping[str, float]]:
        """Scores the model as it stands on a few development samples."""
        return scoring.quick_evaluation(self)

    @cached_property
    def phases(self) -> list[Phase]:
        """The phases of the training, one after the other."""
        return [Phase(self.plan, self.quick)]

    @cached_property
    def session(self) -> Session:
        """The training session. Raises KitError before the training."""
        raise KitError(f"{self.run.run_id} is not finished: it has not been trained; call train() first")

    def train(self) -> Session:
        """Resume or start, find the batch that fits, pass the smoke gate, train while the session lasts."""
        self.session = run_session(self)
        return self.session

    @property
    def finished(self) -> bool:
        """Return whether everything is trained, so that the run can be evaluated and recorded."""
        return "session" in vars(self) and self.session.finished

    @cached_property
    def concept_names(self) -> Mapping[str, dict[str, str]]:
        """Task -> what its training mentions are called -> their concepts."""
        return {name: concept_names(samples) for name, samples in self.samples().items()}

    def predict_samples(self, task: str, samples: Sequence[UnifiedSample]) -> list[UnifiedSample]:
        """Predict samples of one of the tasks' corpora, as its official predictions are made."""
        return scoring.predictions(self, self.config.tasks[task], self.specs[task], samples)

    def predict(self, texts: Iterable[Text], task: str | None = None) -> Iterator[UnifiedSample]:
        """Predict new text, one sample per text, as a stream; `task` may be left out where there is one.

        A text is a string, an object of the JSONL format (`{"text": …, "candidates": […]}`) or a sample.
        Scores are probabilities of mentions and relations; those of candidates order them.
        Raises ConfigError for another task and CorpusError for a text that the task cannot read.
        """
        return text_reader(self)(texts, task)

    def evaluate(self) -> list[Metric]:
        """Write predictions in the official formats, and score them by the official rules."""
        self._assert_finished()
        self.metrics = self.scores_of(self.run)
        return self.metrics

    def scores_of(self, run: RunFolder) -> list[Metric]:
        """Write and score predictions of the model as it stands, into any run folder."""
        return scoring.evaluate(self, run)

    def finish(self) -> Path:
        """Save the adapters and heads, then write the manifest; without it the run counts as unfinished."""
        self._assert_finished()
        save_adapters(self.model, self.run.adapters)
        if self.backbone.whole:
            self.backbone.tokenizer.save_pretrained(self.run.adapters / BACKBONE)
        scoring.save_concepts(self)
        return record_run(self, self.session.trainers)

    def _assert_finished(self) -> None:
        if not self.session.finished:
            raise KitError(f"{self.run.run_id} is not finished: {self.session.end.message}")
