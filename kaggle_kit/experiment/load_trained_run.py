"""The model of a finished run as it was when it was scored: base, saved adapters, fusion and heads.

    run = load_trained_run("runs/mine")
    for sample in run.predict(["No history of diabetes."]): ...     # new text; needs no corpus
    figure = assert_reproduced(run, "semeval2014t7")                # the corpora of the run are opened here

Nothing is trained here. What is loaded must predict again what the run predicted; a model that does not
is not the one that was trained.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.config import read_config
from kaggle_kit.core.errors import CorpusMissing, RunFolderError
from kaggle_kit.core.records import Recorded
from kaggle_kit.core.runtime import logger
from kaggle_kit.core.types import TaskSpec
from kaggle_kit.data.corpus import Corpus
from kaggle_kit.evaluation.official import score_samples
from kaggle_kit.experiment import preparation, scoring
from kaggle_kit.experiment.controlled_variables import with_saved_ranks
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.models.adapter_files import load_adapters, saved_specs
from kaggle_kit.models.adapters import BACKBONE
from kaggle_kit.models.build import build_model
from kaggle_kit.models.multitask import MultiTaskModel

MAX_DIFFERENCE = 0.005  # of a primary metric; another device rounds differently


class TrainedRun(Experiment):
    """A finished run with its model. Its corpora are opened where a figure is asked for, not to predict."""

    @cached_property
    def corpora(self) -> Mapping[str, Corpus]:
        """Task -> the corpus that the run was trained on. ConfigError for one that has changed since."""
        return preparation.corpora_of(self.run, self.config)

    @cached_property
    def specs(self) -> dict[str, TaskSpec]:
        """Task -> what the model knows of it, as training found it in the corpus."""
        return saved_specs(self.run.adapters)

    @cached_property
    def model(self) -> MultiTaskModel:
        """The trained model. RunFolderError for adapters that do not fit the run's configuration."""
        strategy = with_saved_ranks(self.config.strategy, self.run.adapters)
        model = build_model(self.backbone, self.specs.values(), strategy)
        load_adapters(model, self.run.adapters)
        return model

    @cached_property
    def concept_names(self) -> Mapping[str, dict[str, str]]:
        """Task -> what training mentions are called -> their concepts.

        Of restricted text the run folder keeps none; they are read from the corpus where it is there.
        """
        stored = Recorded.read(self.run.adapters / scoring.CONCEPTS)
        if all(names is not None for names in stored.values()):
            return stored
        try:
            return super().concept_names
        except CorpusMissing:
            missing = ", ".join(name for name, names in stored.items() if names is None)
            logger.warning("%s: mentions get no concepts, for they lie in a corpus that is not here", missing)
            return {name: names or {} for name, names in stored.items()}


def load_trained_run(
    run: RunFolder | Path | str, model_path: str | None = None, quantization: str | None = None
) -> TrainedRun:
    """Return a finished run, or the run in a folder, with its model.

    `model_path` is where the base lies here; a run that trained all of it has its own. `quantization` of the
    base replaces the run's own. Raises RunFolderError for weights that are missing, were edited or do not fit
    the run's configuration.
    """
    run = run if isinstance(run, RunFolder) else RunFolder.open(Path(run))
    run.verify()
    config = read_config(run.config_yaml)
    own = str(run.adapters / BACKBONE) if config.training.full_finetuning else config.model.path
    strategy = replace(config.strategy, quantization=quantization or config.strategy.quantization)
    model = replace(config.model, path=model_path or own)
    trained = TrainedRun(replace(config, model=model, strategy=strategy), run)
    trained.model.eval()
    return trained


def judged_split(exp: Experiment) -> str:
    """Return the split by which the run is judged: test where it reports that, for dev may have chosen."""
    report = exp.config.profile.report
    return "test" if "test" in report else report[0]


def assert_reproduced(exp: Experiment, task: str) -> float:
    """Return the run's own primary figure; RunFolderError where the loaded model scores another one."""
    split, metric = judged_split(exp), exp.config.tasks[task].primary_metric
    wanted = (task, metric, split)
    recorded = [m.value for m in exp.run.metrics() if (m.task, m.name, m.split) == wanted]
    if not recorded:
        raise RunFolderError(f"{exp.run.run_id} records no {metric} of {task} on {split}; run its page again")
    gold = exp.samples(split)[task]
    with tempfile.TemporaryDirectory() as folder:
        scores = score_samples(exp.config.tasks[task], gold, exp.predict_samples(task, gold), Path(folder))
    now, then = scores.get(metric, 0.0), recorded[0]
    if abs(now - then) > MAX_DIFFERENCE:
        what = f"{metric} of {task} on {split} is {now:.4f} reloaded and {then:.4f} in metrics.json"
        raise RunFolderError(f"{exp.run.run_id}: {what}; its adapters are not those scored")
    return then
