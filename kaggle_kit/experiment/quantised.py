"""A finished run in 4 bits: merged, calibrated on its training text, quantised, reloaded and scored.

    export_quantised(RunFolder.open(Path("runs/mine")), Path("mine"), Terms(), "gptq")
    run = load_quantised_run("mine", "runs")        # as load_trained_run gives it, with the 4-bit model

Adapters are added to a base in full precision, also where they were trained on one in NF4. That is exact only
where the adapters of a task add up, so a run with a fusion or a hierarchy is refused. Where each task has
adapters of its own, a folder holds one task.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from kaggle_kit.core.artifacts import RunFolder, find_run
from kaggle_kit.core.config import read_config
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.records import Recorded, writing
from kaggle_kit.core.runtime import in_workspace
from kaggle_kit.core.secrets import refuse_secrets
from kaggle_kit.evaluation.official import score_samples
from kaggle_kit.evaluation.texts import chosen_task
from kaggle_kit.experiment.load_trained_run import TrainedRun, judged_split, load_trained_run
from kaggle_kit.export.card import Shared, Terms, model_card
from kaggle_kit.export.folder import checked, complete
from kaggle_kit.export.predict import ADAPTERS, CONCEPTS, SETTINGS, load_model
from kaggle_kit.export.quantise import Calibration, check_quantisable, quantise
from kaggle_kit.models.adapter_files import save_adapters, saved_description
from kaggle_kit.models.adapters import BACKBONE
from kaggle_kit.models.merging import why_unmergeable
from kaggle_kit.models.multitask import MultiTaskModel
from kaggle_kit.models.whole import WholeBackbone

SEQUENCES = 128  # of training text that errors are weighed by, evenly from the tasks


def export_quantised(run: RunFolder, out: Path, terms: Terms, method: str, task: str = "") -> Path:
    """Write a folder that predicts with 4-bit weights, with the scores before and after in its card.

    Raises ConfigError, before any work, for an unknown method, an architecture that it does not take, a
    missing library, adapters that cannot be merged and tasks that do not have the same; and as `checked`.
    """
    shared = checked(run, out, terms)
    model_card(shared, terms)  # a verdict on another run is refused now
    check_quantisable(shared.config.model, method)
    trained = load_trained_run(run, quantization="none")
    tasks = _tasks_of_one_model(trained, task)
    with writing(out), tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "export"
        facts = _quantise(trained, tasks, method, folder / ADAPTERS)
        shutil.copyfile(run.adapters / CONCEPTS, folder / ADAPTERS / CONCEPTS)
        config = replace(shared.config, strategy=replace(shared.config.strategy, quantization="none"))
        config = replace(config, tasks={name: config.tasks[name] for name in tasks})
        described = saved_description(folder / ADAPTERS)
        specs = {name: shared.specs[name] for name in tasks}
        complete(replace(shared, config=config), folder, quantised=facts | {"run": run.run_id})
        facts |= {"scores": _scores(_reloaded(folder, run), tasks)}
        shared = Shared(run, config, specs, described, facts)
        card = refuse_secrets(model_card(shared, terms), "the model card")
        (folder / "README.md").write_text(card, encoding="utf-8")
        shutil.copytree(folder, out, dirs_exist_ok=True)
    return out


def load_quantised_run(folder: Path | str, runs_dir: Path | str) -> TrainedRun:
    """Return the run that a folder of `export_quantised` was made of, with the folder's model for its own.

    Raises RunFolderError where there is no such run, ConfigError for a folder that is not quantised.
    """
    folder = in_workspace(folder)
    made = Recorded.read(folder / SETTINGS).get("quantised")
    if made is None:
        raise ConfigError(f"{folder} is not quantised; name one that `export RUN --quantise` wrote")
    return _reloaded(folder, find_run(in_workspace(runs_dir), made["run"]))


def _reloaded(folder: Path, run: RunFolder) -> TrainedRun:
    config = read_config(run.config_yaml)
    settings = Recorded.read(folder / SETTINGS)
    loaded, model = load_model(folder, settings, device=config.profile.device)
    config = replace(config, tasks={name: config.tasks[name] for name in model.specs})
    quantised = TrainedRun(config, run)
    vars(quantised).update(backbone=loaded, model=model, specs=model.specs)
    return quantised


def _tasks_of_one_model(trained: TrainedRun, task: str) -> list[str]:
    """Return the tasks that one merged model serves. ConfigError where there is none."""
    model = trained.model
    if model.lora.ranks and (reason := why_unmergeable(model)):
        raise ConfigError(
            f"{trained.run.run_id} cannot be quantised after training: {reason}, so its adapters cannot be "
            "merged; export it without --quantise, or train on a 4-bit base (strategy s5_qlora)"
        )
    if task:
        return [chosen_task(model.specs, task)]
    if len({tuple(model.adapters_of(name)) for name in model.specs}) > 1:
        raise ConfigError(
            f"{trained.run.run_id}: each task has adapters of its own, and so a merged model of its own; add "
            f"--task, one of {', '.join(model.specs)}"
        )
    return list(model.specs)


def _quantise(trained: TrainedRun, tasks: Sequence[str], method: str, adapters: Path) -> dict[str, Any]:
    """Write weights, heads and what they are into a folder as `save_adapters` does; return the facts."""
    model = trained.model
    rows = _calibration_rows(trained, tasks)
    backbone = model.backbone
    if model.lora.ranks:
        backbone = backbone.merge_and_unload(adapter_names=model.adapters_of(tasks[0]))
    causal = all(model.is_causal(name) for name in tasks)
    group = quantise(
        backbone, trained.backbone.tokenizer, Calibration(method, rows, causal), adapters / BACKBONE
    )
    whole = WholeBackbone(backbone)
    whole.whole = {}  # its files are those of the quantised one
    specs = [model.specs[name] for name in tasks]
    kept = MultiTaskModel(whole, specs, causal=model.causal, decoder=model.decoder)
    kept.heads = nn.ModuleDict({name: model.heads[name] for name in tasks})
    save_adapters(kept, adapters)
    return {"method": method, "group": group, "rows": len(rows), "tokens": sum(map(len, rows))}


def _calibration_rows(trained: TrainedRun, tasks: Sequence[str]) -> list[list[int]]:
    """Draw token ids of training sequences, as the model reads them: the same ones for a run's seed."""
    generator, rows = np.random.default_rng(trained.config.seed), []
    for name in tasks:
        encoded = trained.encoded[name]
        most = min(len(encoded), max(1, SEQUENCES // len(tasks)))
        chosen = sorted(generator.choice(len(encoded), most, replace=False).tolist())
        rows += [[int(one) for one in ids] for ids in encoded.rows(chosen)["input_ids"]]
    return rows


def _scores(quantised: TrainedRun, tasks: Sequence[str]) -> list[Mapping[str, Any]]:
    """Score the split by which the run is judged: the run's own figures beside those of the 4-bit model."""
    split = judged_split(quantised)
    found: list[Mapping[str, Any]] = []
    for name in tasks:
        config, gold = quantised.config.tasks[name], quantised.samples(split)[name]
        with tempfile.TemporaryDirectory() as place:
            scores = score_samples(config, gold, quantised.predict_samples(name, gold), Path(place))
        for own in quantised.run.metrics():
            wanted = (config.primary_metric, *config.secondary_metrics)
            if (own.task, own.split) == (name, split) and own.name in wanted:
                figures = {"run": own.value, "quantised": scores.get(own.name, 0.0)}
                found.append({"task": name, "split": split, "metric": own.name} | figures)
    return found
