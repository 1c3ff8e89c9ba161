"""Token-controlled baselines and placebos: the controls of a finished multi-task run.

    multi = token_controlled.multi_task_run(asked, runs_dir)   # experiment.twin; for practice, one is made
    config = token_controlled.control_of(multi, asked)      # refuses whatever would be no control
    corpora = corpora_of(multi, config)
    token_controlled.assert_active_parameters(multi, network)

A token-controlled baseline is its multi-task run with one thing changed: the tokens come from one task. A
placebo has that run's tasks and model, but the labels of its partner tasks are permuted. Everything else,
seed and steps included, is read from that run's folder and cannot be chosen anew; but a search of its
own, at the baseline's tokens and with as many trials as that run's, may have set what `TUNED` names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from kaggle_kit.core.artifacts import Metric, RunFolder, find_run, find_runs
from kaggle_kit.core.checks import validate
from kaggle_kit.core.config import compose, config_hash, read_config, strategy_entry, without_machine_keys
from kaggle_kit.core.errors import ConfigError, RunFolderError, refuse
from kaggle_kit.core.records import flat
from kaggle_kit.core.request import name_of
from kaggle_kit.core.runtime import in_workspace, logger
from kaggle_kit.core.schema import RunConfig, StrategyConfig, TrainingConfig
from kaggle_kit.experiment.controlled_variables import active_parameters, with_saved_ranks
from kaggle_kit.experiment.page_run import run_page
from kaggle_kit.experiments.token_controlled_plan import TOTALS, matched
from kaggle_kit.models.adapters import BACKBONE, SHARED
from kaggle_kit.models.multitask import MultiTaskModel
from kaggle_kit.models.parity import MAX_DIFFERENCE

CONTROLS = ("total", "share")
SINGLE, MULTI = "s1_single", "s2_shared"
RECORDED = ("active_parameters", "parameter_groups", "selection", "optimiser_steps")
PARTNER = {"semeval2021t6": "semeval2014t7"}  # in the pair that is made where no run was named; else 2021t6
# Steps and tokens follow from the run, whatever epochs and effective batch say; its rank from parity.
TUNED = ("learning_rate", "warmup")
SETTINGS = ("training.", "practice.")  # what else the pair that is made takes over from the page
SHORTENED = {"training.epochs", "training.max_steps"}  # where neither is given, the pair takes one epoch
REPLACED = ("experiment.twin", "training.max_steps")  # by the run's id, and by the token target
NAMED = ("model.name", "profile.name", "seed")  # these the page always says


def multi_task_run(asked: RunConfig, runs_dir: Path | str) -> RunFolder:
    """The run that `experiment.twin` names, by its id below `runs_dir` or by the path of its folder.

    Where none is named, practice profiles get one: S2 on two tasks by its own page, unless it is there
    already. Any other profile is refused with the command that makes one. RunFolderError for a run
    that is absent or unfinished.
    """
    if "control" not in asked.experiment:
        raise ConfigError("experiment.control is missing; add experiment=token_controlled to the overrides")
    folder = in_workspace(runs_dir)
    if named := asked.experiment.get("twin"):
        return find_run(folder, str(named))
    (task,) = asked.tasks
    tasks = f"{task},{PARTNER.get(task, 'semeval2021t6')}"
    model, profile, seed = name_of(asked.model), asked.profile.name, asked.seed
    experiment = f"experiment={asked.experiment['name']}"
    if asked.profile.corpora != "practice":
        options = f"--task {tasks} --model {model} --profile {profile} --seed {seed} {experiment}"
        made = f"such as that of `python -m kaggle_kit run {MULTI} {options}`"
        raise ConfigError(f"experiment.twin is empty; name a finished multi-task run below {folder}, {made}")
    chosen = {key: value for key, value in _chosen(asked).items() if key.startswith(SETTINGS)}
    if not SHORTENED & chosen.keys():
        chosen["training.epochs"] = 1
    overrides = [experiment, *(f"{key}={value}" for key, value in chosen.items())]
    config = compose(model, tasks.split(","), MULTI, profile, overrides=overrides, seed=seed)
    wanted = config_hash(config)
    for run in find_runs(folder, damaged=[]):
        if (run.facts["page"], run.facts["config_hash"]) == (MULTI, wanted):
            return run
    logger.info("no experiment.twin: training %s on %s first", MULTI, tasks)
    asks = partial(run_page, MULTI, model=model, task=tasks, strategy=MULTI, profile=profile, seed=seed)
    return RunFolder.open(asks(overrides=overrides, runs_dir=folder, progress=False))


def control_of(multi: RunFolder, asked: RunConfig) -> RunConfig:
    """The configuration of the control that `asked` names by its task.

    `experiment.control` is `total`, for as many tokens as the run saw of all tasks, or `share`, for as
    many as it saw of this one; with `experiment.placebo` it is the run itself, on other labels of all tasks
    but this one. Raises RunFolderError for a run that stopped early, and ConfigError,
    naming the field, for whatever was asked for otherwise than the run did it, and where no rank gives
    the run's active parameters within 5 %.
    """
    config = _placebo(multi, asked) if asked.experiment.get("placebo") else _baseline(multi, asked)
    same = asked.experiment.get("name") == config.experiment.get("name")
    _assert_as_asked(config, asked, multi, besides_experiment=same or "levels" in config.experiment)
    validate(config)
    return config


def searched(asked: RunConfig, runs_dir: Path | str) -> tuple[RunConfig, RunFolder | None]:
    """What a search trains: a baseline of the run that `experiment.twin` names, or what was asked for.

    A search for a baseline runs at the baseline's own tokens and steps. Raises as `control_of` does.
    """
    if not (named := asked.experiment.get("twin")):
        return asked, None
    multi = find_run(in_workspace(runs_dir), str(named))
    config = _baseline(multi, replace(asked, experiment=asked.experiment | {"tuning": {}}))
    own = {key: config.experiment[key] for key in ("twin", "twin_config", "control")}
    config = replace(config, experiment=asked.experiment | own | {"match": matched(config)})
    _assert_as_asked(config, asked, multi, besides_experiment=True)
    validate(config)
    return config, multi


def active_beside(multi: RunFolder, network: MultiTaskModel) -> list[dict[str, Any]]:
    """One row per task of the control: the parameters that its tokens pass in both runs."""
    theirs = multi.manifest()["active_parameters"]
    return [
        {"task": task, "multi-task": theirs[task], "control": count, "difference": count / theirs[task] - 1}
        for task, count in active_parameters(network).items()
    ]


def assert_active_parameters(multi: RunFolder, network: MultiTaskModel) -> None:
    """Raises ConfigError unless the built model's active parameters are the run's within 5 %."""
    for row in active_beside(multi, network):
        _assert_parity(multi, row["task"], row["control"])


def _baseline(multi: RunFolder, asked: RunConfig) -> RunConfig:
    """One task at the run's tokens, or at its own share of them."""
    (task,) = asked.tasks
    manifest, theirs = _controllable(multi, task)
    tokens, link = manifest["totals"][TOTALS[matched(theirs)]], _link(multi, asked)
    target = sum(tokens.values()) if link["control"] == "total" else tokens[task]
    training, tuning = _tuned(theirs, asked, multi, target)
    return replace(
        theirs,
        model=replace(theirs.model, path=asked.model.path or theirs.model.path),
        tasks={task: replace(theirs.tasks[task], path=asked.tasks[task].path or theirs.tasks[task].path)},
        strategy=_matched(multi, theirs, task),
        training=replace(training, target_tokens=target, max_steps=None),
        experiment=theirs.experiment | tuning | link,
    )


def _placebo(multi: RunFolder, asked: RunConfig) -> RunConfig:
    """The run itself; only which of its tasks keeps its labels, and is scored, is new."""
    (task,) = asked.tasks
    manifest, theirs = _controllable(multi, task)
    if (phases := len(manifest["plans"])) > 1:
        what = f"{multi.run_id} was trained in {phases} phases"
        raise ConfigError(f"{what}: experiment.placebo is for runs of one phase; leave it out")
    return replace(
        theirs,
        model=replace(theirs.model, path=asked.model.path or theirs.model.path),
        strategy=_saved_strategy(multi, theirs),
        experiment=theirs.experiment | _link(multi, asked) | {"placebo": True, "scored": task},
    )


def _link(multi: RunFolder, asked: RunConfig) -> dict[str, Any]:
    """The keys of `experiment` that make a run the control of another."""
    if (control := asked.experiment.get("control")) not in CONTROLS:
        raise ConfigError(f"experiment.control is {control!r}; allowed: {', '.join(CONTROLS)}")
    return {"twin": multi.run_id, "twin_config": multi.manifest()["config_hash"], "control": control}


def side_by_side(multi: RunFolder, scored: Mapping[str, Sequence[Metric]]) -> list[dict[str, Any]]:
    """One row per primary metric of the control: the multi-task run's score, its own, the difference.

    `scored`: which weights of the control were scored, such as `last step` -> their figures.
    """
    tasks = multi.config()["tasks"]
    theirs = {(metric.task, metric.split, metric.name): metric.value for metric in multi.metrics()}
    rows = []
    for weights, own in ((weights, metric) for weights, metrics in scored.items() for metric in metrics):
        score = theirs.get((own.task, own.split, own.name))
        if own.name == tasks[own.task]["primary_metric"] and score is not None:
            row: dict[str, Any] = {"task": own.task, "split": own.split, "metric": own.name}
            row |= {"control at": weights, "multi-task": score, "control": own.value}
            row["difference"] = score - own.value
            rows.append(row | {"n": own.n})
    return rows


def _controllable(multi: RunFolder, task: str) -> tuple[dict[str, Any], RunConfig]:
    """The run's manifest and configuration. RunFolderError or ConfigError where it has no control."""
    manifest = multi.manifest()
    tasks = manifest["tasks"]
    other = f"name another by experiment.twin, such as a run of {MULTI}"
    again = "train it again with experiment=token_controlled"
    if len(tasks) < 2:
        raise RunFolderError(f"tasks of {multi.run_id} is {tasks}: one task alone has no control; {other}")
    if task not in tasks:
        raise ConfigError(f"tasks of {multi.run_id} has no {task!r}; name one of {', '.join(tasks)}")
    if absent := [key for key in RECORDED if key not in manifest]:
        raise RunFolderError(f"{multi.run_id} records no {', '.join(absent)}; run its page again")
    if not {SHARED, BACKBONE} & manifest["parameter_groups"].keys():
        raise RunFolderError(f"the tasks of {multi.run_id} share no adapter: nothing can transfer; {other}")
    if (rule := manifest["selection"]["rule"]) != "last":
        raise RunFolderError(f"selection.rule of {multi.run_id} is {rule!r}; a control has last: {again}")
    stops = [phase.get("QuickEvaluationCallback", {}).get("stopped_at") for phase in manifest["callbacks"]]
    if any(stops):
        step = max(filter(None, stops))
        raise RunFolderError(f"stopped_at of {multi.run_id} is step {step}: it ended early; {again}")
    return manifest, read_config(multi.config_yaml)


def _tuned(
    theirs: RunConfig, asked: RunConfig, multi: RunFolder, target: int
) -> tuple[TrainingConfig, dict[str, Any]]:
    """The training settings of the control, and its `tuning` where a search of its own found them."""
    own, other = (config.experiment.get("tuning") or {} for config in (asked, theirs))
    if not own.get("trials") or own == other:
        return theirs.training, {}
    for key in ("trials", "split"):
        if own.get(key) != other.get(key):
            values = f"{own.get(key)} here and {other.get(key)} in {multi.run_id}"
            raise ConfigError(
                f"experiment.tuning.{key} is {values}; give both arms one budget, or leave it out"
            )
    if own.get("target_tokens") != target:
        values = f"{own.get('target_tokens')} and the baseline has {target}: search at its own tokens"
        link = f"experiment.twin={multi.run_id} experiment.control={asked.experiment['control']}"
        raise ConfigError(f"experiment.tuning.target_tokens is {values}, by the page hp_search with {link}")
    found = {name: getattr(asked.training, name) for name in TUNED}
    return replace(theirs.training, **found), {"tuning": dict(own)}


def _matched(multi: RunFolder, theirs: RunConfig, task: str) -> StrategyConfig:
    """One adapter of the rank that gives the run's active parameters, heads included, within 5 %.

    Where the whole backbone trained, there is none, and the parameters are the same.
    """
    manifest, shared = multi.manifest(), _saved_strategy(multi, theirs)
    groups, rank = manifest["parameter_groups"], None
    if not theirs.training.full_finetuning:
        head, unit = groups[f"heads:{task}"], groups["shared"] // (shared.rank or theirs.model.lora.rank)
        active = manifest["active_parameters"][task]
        rank = max(1, round((active - head) / unit))  # a unit is that of one rank
        _assert_parity(multi, task, rank * unit + head)
    taken = ("attention", "quantization", "unsloth")
    weighting = "static" if shared.loss_weighting == "static" else "equal"
    same = {name: getattr(shared, name) for name in taken}
    return replace(strategy_entry(SINGLE), rank=rank, loss_weighting=weighting, **same)


def _saved_strategy(multi: RunFolder, theirs: RunConfig) -> StrategyConfig:
    """The run's strategy; of an ablation with the ranks that were solved for it."""
    solved = "levels" in theirs.experiment
    return with_saved_ranks(theirs.strategy, multi.adapters) if solved else theirs.strategy


def _assert_parity(multi: RunFolder, task: str, count: int) -> None:
    theirs = multi.manifest()["active_parameters"][task]
    if abs(count / theirs - 1) > MAX_DIFFERENCE:
        apart = f"is {count:,} here and {theirs:,} in {multi.run_id}, over {MAX_DIFFERENCE:.0%} apart"
        raise ConfigError(f"active_parameters.{task} {apart}; leave strategy.rank and model as they follow")


def _assert_as_asked(config: RunConfig, asked: RunConfig, multi: RunFolder, besides_experiment: bool) -> None:
    """Whatever was chosen for the control must be what follows from the run: nothing is silently ignored.

    `besides_experiment`: the run has an experiment of its own, or the same one and may deviate from it; so
    what the experiment sets was not chosen.
    """
    derived, other = _flat(config), "leave it out, or name another run by experiment.twin"
    refuse(
        f"{key} is {value} here and {derived.get(key)} in the control of {multi.run_id}; {other}"
        for key, value in _chosen(asked, besides_experiment).items()
        if key not in REPLACED and value != derived.get(key)
    )


def _chosen(asked: RunConfig, besides_experiment: bool = False) -> dict[str, Any]:
    """Key -> value of all that the page was told, by names, overrides and (or besides) its experiment."""
    names = {"model": name_of(asked.model), "strategy": asked.strategy.name, "profile": asked.profile.name}
    experiment = asked.experiment.get("name") if besides_experiment else None
    plain = _flat(compose(task=list(asked.tasks), seed=asked.seed, experiment=experiment, **names))
    told = _flat(asked)
    if not told.get("experiment.tuning.trials"):  # the experiment's own "untuned" asks nothing
        told = {key: value for key, value in told.items() if not key.startswith("experiment.tuning.")}
    return {key: told[key] for key in told if key in NAMED or told[key] != plain.get(key)}


def _flat(config: RunConfig) -> dict[str, Any]:
    fields = flat(without_machine_keys(asdict(config)))
    return {key: value for key, value in fields.items() if value != {}}
