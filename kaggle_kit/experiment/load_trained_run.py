"""The model of a finished run as it was when it was scored: base, saved adapters, fusion and heads.

    again = reload_run(RunFolder.open(path))
    figure = again.assert_reproduced("semeval2014t7")

Nothing is trained here. What is loaded must predict again what the run predicted; a model that does not
is not the one that was trained.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.config import read_config
from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.core.schema import RunConfig, TaskConfig
from kaggle_kit.core.types import TaskSpec, UnifiedSample
from kaggle_kit.data.corpus import Corpus
from kaggle_kit.evaluation.official import score_samples
from kaggle_kit.experiment import model_selection, preparation, rounds
from kaggle_kit.experiment.controlled_variables import as_saved
from kaggle_kit.models.adapter_files import load_adapters
from kaggle_kit.models.build import build_model
from kaggle_kit.models.loading import Loaded
from kaggle_kit.models.multitask import MultiTaskModel

TOLERANCE = 0.005  # of a primary metric; another device rounds differently


@dataclass(frozen=True)
class Reloaded:
    """A finished run with everything that predicting takes."""

    run: RunFolder
    config: RunConfig
    corpora: Mapping[str, Corpus]
    specs: Mapping[str, TaskSpec]
    loaded: Loaded
    network: MultiTaskModel

    def predict(
        self, task: TaskConfig, spec: TaskSpec, samples: Sequence[UnifiedSample]
    ) -> list[UnifiedSample]:
        """Predictions of the heads of `spec` for samples of any corpus, concepts as the run's own.

        `task` says how the corpus's documents are cut into passages.
        """
        config = replace(self.config, tasks={spec.name: task})
        encoded = preparation.encode_split(config, {spec.name: samples}, {spec.name: spec}, self.loaded)
        predicted = model_selection.predictions_of(
            config, self.network, self.loaded, encoded[spec.name], samples
        )
        train = preparation.split_samples(self.config, self.corpora, "train")[spec.name]
        return rounds.with_concepts(train, predicted)

    @property
    def split(self) -> str:
        """The split by which the run is judged: test where it reports that, for dev may have chosen."""
        return "test" if "test" in self.config.profile.report else self.config.profile.report[0]

    def assert_reproduced(self, task: str) -> float:
        """The run's own primary figure; RunFolderError where the reloaded model scores another one."""
        entry, split = self.config.tasks[task], self.split
        gold = preparation.split_samples(self.config, self.corpora, split)[task]
        predicted = self.predict(entry, self.specs[task], gold)
        with tempfile.TemporaryDirectory() as folder:
            figure = score_samples(entry, gold, predicted, Path(folder)).get(entry.primary_metric, 0.0)
        recorded = primary_figure(self.run, task, entry.primary_metric, split)
        if abs(figure - recorded) > TOLERANCE:
            raise RunFolderError(
                f"{self.run.run_id}: {entry.primary_metric} of {task} on {split} is {figure:.4f} with the "
                f"reloaded adapters and {recorded:.4f} in metrics.json; its adapters are not those scored"
            )
        return recorded


def reload_run(run: RunFolder, model_path: str | None = None) -> Reloaded:
    """A finished run's model on its own corpora; `model_path` is where the base lies on this machine.

    Raises ConfigError for a corpus that has changed since, RunFolderError for adapters that are missing, were
    edited or do not fit the run's configuration.
    """
    run.verify()
    config = read_config(run.config_yaml)
    config = replace(config, model=replace(config.model, path=model_path or config.model.path))
    corpora = preparation.open_corpora(config, left_out=run.manifest().get("left_out"))
    preparation.assert_same_data(run, corpora)
    specs = preparation.task_specs(config, corpora)
    torch.manual_seed(config.seed)
    loaded = preparation.open_backbone(config)
    network = build_model(loaded, specs.values(), as_saved(config.strategy, run.adapters))
    load_adapters(network, run.adapters)
    return Reloaded(run, config, corpora, specs, loaded, network)


def primary_figure(run: RunFolder, task: str, metric: str, split: str) -> float:
    """A figure that the run recorded; RunFolderError where it recorded none."""
    for one in run.metrics():
        if (one.task, one.name, one.split) == (task, metric, split):
            return one.value
    raise RunFolderError(f"{run.run_id} records no {metric} of {task} on {split}; run its page again")
