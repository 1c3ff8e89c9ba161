"""The model of a finished run as it was when it was scored: base, saved adapters, fusion and heads.

    exp = load_trained_run(RunFolder.open(path))
    figure = assert_reproduced(exp, "semeval2014t7")
    predicted = exp.predict("semeval2014t7", samples)

Nothing is trained here. What is loaded must predict again what the run predicted; a model that does not
is not the one that was trained.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.config import read_config
from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.evaluation.official import score_samples
from kaggle_kit.experiment import preparation
from kaggle_kit.experiment.controlled_variables import with_saved_ranks
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.models.adapter_files import load_adapters
from kaggle_kit.models.build import build_model

MAX_DIFFERENCE = 0.005  # of a primary metric; another device rounds differently


def load_trained_run(run: RunFolder, model_path: str | None = None) -> Experiment:
    """Return a finished run with its model, on its own corpora; `model_path` is where the base lies here.

    Raises ConfigError for a corpus that has changed since, RunFolderError for adapters that are missing, were
    edited or do not fit the run's configuration.
    """
    run.verify()
    config = read_config(run.config_yaml)
    exp = Experiment(replace(config, model=replace(config.model, path=model_path or config.model.path)), run)
    exp.corpora = preparation.open_corpora(exp.config, left_out=run.manifest().get("left_out"))
    preparation.assert_same_data(run, exp.corpora)
    strategy = with_saved_ranks(config.strategy, run.adapters)
    exp.model = build_model(exp.backbone, exp.specs.values(), strategy)
    load_adapters(exp.model, run.adapters)
    return exp


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
        scores = score_samples(exp.config.tasks[task], gold, exp.predict(task, gold), Path(folder))
    if abs(scores.get(metric, 0.0) - recorded[0]) > MAX_DIFFERENCE:
        raise RunFolderError(
            f"{exp.run.run_id}: {metric} of {task} on {split} is {scores.get(metric, 0.0):.4f} with the "
            f"reloaded adapters and {recorded[0]:.4f} in metrics.json; its adapters are not those scored"
        )
    return recorded[0]
