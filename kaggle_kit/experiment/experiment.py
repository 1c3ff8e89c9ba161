"""The object a page talks to: one run, from its configuration to its manifest.

    exp = Experiment.open("s3a_flat", model="tiny", task="semeval2014t7,semeval2021t6")
    exp.train()         # resume or start, auto-batch, smoke gate, training
    exp.evaluate()      # official predictions and scores
    exp.finish()        # adapters, then the manifest, which is written last

Every part is made when it is first asked for and kept; a page may put its own in place of it (a model built
in the open, the plan of a control). There is no logic here: each part is one call of a lower floor, and can
be used and tested without this class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from kaggle_kit.batches.batch import MicroBatch, PlanDataset, Step
from kaggle_kit.batches.encode import EncodedTask
from kaggle_kit.batches.plan import StepPlan
from kaggle_kit.core.artifacts import Metric, RunFolder
from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import KitError
from kaggle_kit.core.restricted import hide_values
from kaggle_kit.core.runs import start_run
from kaggle_kit.core.schema import RunConfig, TaskConfig
from kaggle_kit.core.types import TaskSpec, UnifiedSample
from kaggle_kit.data.corpus import Corpus
from kaggle_kit.experiment import preparation, rounds, training_session
from kaggle_kit.experiment.controlled_variables import scored
from kaggle_kit.experiment.model_selection import quick_evaluation
from kaggle_kit.experiment.startup import Finding, check_startup
from kaggle_kit.experiment.training_session import Phase, Session
from kaggle_kit.models.adapter_files import save_adapters
from kaggle_kit.models.build import build_model
from kaggle_kit.models.loading import Loaded
from kaggle_kit.models.multitask import MultiTaskModel

Samples = dict[str, tuple[UnifiedSample, ...]]


class Experiment:
    """One run and everything that it is made of.

    `config` is its checked configuration and `run` its folder. `scored` is the configuration of the tasks
    that are evaluated: all of them, unless the experiment says otherwise.
    """

    def __init__(self, config: RunConfig, run: RunFolder) -> None:
        self.config, self.run = config, run
        self.scored = scored(config)
        self.session: Session | None = None
        self.metrics: list[Metric] = []
        self._samples: dict[str, Samples] = {}
        if run.facts.get("flags", {}).get("restricted"):
            hide_values()  # the user's own IPython profile may print whole notes with an error

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
        also: Iterable[TaskConfig] = (),
    ) -> Experiment:
        """Compose the configuration, check it, and open the run's folder, a new one or one that goes on.

        `task` holds names with commas between. `settle` makes the final configuration of what was asked for,
        where the page reads it off other runs. `also` are corpora that the page reads besides its tasks.
        Raises ConfigError with everything that is wrong, and RunFolderError for a folder of another run.
        """
        asked = compose(
            model=model,
            task=task.split(","),
            strategy=strategy,
            profile=profile,
            overrides=list(overrides),
            seed=seed,
        )
        config = settle(asked)
        run = start_run(config, page=page, runs_dir=runs_dir, run_dir=run_dir, also=also, asked=asked)
        return cls(config, run)

    @cached_property
    def startup(self) -> list[Finding]:
        """What this machine offers. Raises StartupError where it cannot carry the run."""
        return check_startup(self.config, self.run)

    @cached_property
    def corpora(self) -> Mapping[str, Corpus]:
        return preparation.open_corpora(self.config)

    @cached_property
    def specs(self) -> dict[str, TaskSpec]:
        """What the model must know of each task."""
        return preparation.task_specs(self.config, self.corpora)

    def samples(self, split: str = "train") -> Samples:
        """A split of every task, cut to the profile's limit."""
        if split not in self._samples:
            self._samples[split] = preparation.split_samples(self.config, self.corpora, split)
        return self._samples[split]

    @cached_property
    def backbone(self) -> Loaded:
        """The frozen backbone with the decisions on device, precision and attention, and their reasons."""
        torch.manual_seed(self.config.seed)
        return preparation.open_backbone(self.config)

    @cached_property
    def encoded(self) -> dict[str, EncodedTask]:
        """The training split of every task as token files."""
        return preparation.encode_split(self.config, self.samples(), self.specs, self.backbone)

    @cached_property
    def plan(self) -> StepPlan:
        """Every optimiser step, before the first one is taken."""
        return preparation.plan_training(self.config, self.encoded)

    def step(self, number: int | None = None) -> Step:
        """The micro-batches of an optimiser step on the model's device; by default of one with most tasks."""
        if number is None:
            steps = self.plan.steps
            number = max(range(len(steps)), key=lambda place: (len(steps[place].tokens), -place))
        return PlanDataset(self.plan, self.encoded)[number].to(self.model.backbone.device)

    def batches(self, split: str, samples: int) -> dict[str, list[MicroBatch]]:
        """A few samples of every task as micro-batches, to look into the model with."""
        few = {name: found[:samples] for name, found in self.samples(split).items()}
        encoded = preparation.encode_split(self.config, few, self.specs, self.backbone)
        plan = preparation.one_pass(self.config, encoded)
        found: dict[str, list[MicroBatch]] = {name: [] for name in encoded}
        for step in PlanDataset(plan, encoded):
            for batch in step.to(self.model.backbone.device).micro_batches:
                found[batch.task].append(batch)
        return found

    @cached_property
    def model(self) -> MultiTaskModel:
        """The trainable model of the strategy, unless the page has put its own here."""
        return build_model(self.backbone, self.specs.values(), self.config.strategy)

    @cached_property
    def quick(self) -> Callable[[], Mapping[str, float]]:
        """Scores the model as it stands on a few development samples."""
        gold = {name: self.samples("dev")[name] for name in self.scored.tasks}
        dev = preparation.quick_samples(self.scored, gold)
        encoded = preparation.encode_split(self.scored, dev, self.specs, self.backbone)
        return quick_evaluation(self.scored, self.model, self.backbone, encoded, dev)

    @cached_property
    def phases(self) -> list[Phase]:
        return [Phase(self.plan, self.quick)]

    def train(self) -> Session:
        """Resume or start, find the batch that fits, pass the smoke gate, train while the session lasts."""
        parts = (self.config, self.run, self.model, self.backbone, self.encoded, self.corpora)
        self.session = training_session.run_session(*parts, self.phases)
        return self.session

    @property
    def finished(self) -> bool:
        """Whether everything is trained, so that the run can be evaluated and recorded."""
        return self.session is not None and self.session.finished

    def with_tasks(self, *names: str) -> RunConfig:
        """The configuration with some of its tasks."""
        return replace(self.config, tasks={name: self.config.tasks[name] for name in names})

    def evaluate(self) -> list[Metric]:
        """Write predictions in the official formats, and score them by the official rules."""
        self._assert_finished()
        self.metrics = self.scores_of(self.run)
        return self.metrics

    def scores_of(self, run: RunFolder) -> list[Metric]:
        """The same for the model as it stands, into any run folder."""
        parts = (self.scored, run, self.model, self.backbone, self.specs, self.corpora)
        metrics = rounds.evaluate_reported(*parts)
        run.write_metrics(metrics)
        return metrics

    def finish(self) -> Path:
        """Save the adapters and heads, then write the manifest; without it the run counts as unfinished."""
        self._assert_finished()
        save_adapters(self.model, self.run.adapters)
        parts = (self.config, self.run, self.model, self.backbone, self.session.trainers, self.corpora)
        return rounds.record(*parts)

    def _assert_finished(self) -> None:
        if not self.finished:
            said = self.session.end.message if self.session else "it has not been trained; call train() first"
            raise KitError(f"{self.run.run_id} is not finished: {said}")
