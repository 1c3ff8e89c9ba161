"""What a comparison with token-controlled twins holds fixed, and the refusal of everything else.

    assert_comparable(arms)        # IncomparableRuns: "config.training.warmup: 0.0 in … but 0.1 in …"

The arms differ in one thing, the tasks that their tokens come from. Whatever else differs would be taken
for its effect, so it is refused, and so is every way to choose seeds or weights by the figures that are
then reported. Library versions and commits are not held fixed: the verdict lists where they differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kaggle_kit.analysis.verdict_inputs import CONTROLS, Arms, Entry, chosen_on, flat
from kaggle_kit.core.artifacts import left_out_of
from kaggle_kit.core.errors import IncomparableRuns
from kaggle_kit.evaluation.documents import document_table, figure

PARITY = 0.05  # of the active trainable parameters
FEWEST_SEEDS = 2
ROUNDING = 1e-9  # between a recorded figure and that of its documents
IN_EVERY_RUN = ("profile", "paper", "flags", "model", "device", "selection", "tuning")
CONFIG_IN_EVERY_RUN = ("model", "profile", "practice", "training", "experiment")
STRATEGY_IN_EVERY_RUN = ("attention", "quantization", "unsloth")
MAKES_A_CONTROL = {
    "flags.restricted",  # follows from the tasks
    "config.training.target_tokens",
    "config.training.max_steps",
    "config.experiment.twin",
    "config.experiment.twin_config",
    "config.experiment.control",
    "config.experiment.placebo",
}
TUNED = {  # what an equal number of trials may have set differently in either arm
    "config.training.learning_rate",
    "config.training.epochs",
    "config.training.warmup",
    "config.training.effective_batch",
    "config.experiment.tuning.study",
    "tuning.study",
}


def assert_comparable(arms: Arms) -> None:
    """Raises IncomparableRuns at the first field that differs, is missing, or betrays a selection."""
    for entry in arms.entries():
        _assert_unselected(entry, arms.split)
    _assert_seeds(arms)
    first = arms.multi_task[0]
    by_id = {entry.id: entry for entry in arms.multi_task}
    for task in arms.tasks:
        for entry in arms.multi_task:
            _assert_same(_in_arm, first, entry, task, arms.split)
            _assert_same(_in_every_run, first, entry, task, arms.split)
    for control, task, twin in arms.twins():
        _assert_same(_in_arm, arms.controls[control][task][0], twin, task, arms.split)
        _assert_same(_in_every_run, first, twin, task, arms.split)
        _assert_tokens(control, task, by_id[twin["twin"]["of"]], twin)
        if control != "placebo":  # which is the same model, trained on other labels
            _assert_parameters(task, by_id[twin["twin"]["of"]], twin)


def documents_of(entries: Sequence[Entry], task: str, split: str) -> tuple[list[str], np.ndarray]:
    """Document ids, and what they add to the primary metric: (seeds, documents, columns).

    Raises IncomparableRuns where a run has none or others, or they do not make its recorded figure.
    """
    where = f"documents/{task}.{split}.jsonl"
    tables = [document_table(entry.run.read_documents(task, split)) for entry in entries]
    for entry, (ids, sums) in zip(entries, tables, strict=True):
        if not ids or ids != tables[0][0]:
            there = f"{len(ids)} documents in {entry.id} but {len(tables[0][0])} in {entries[0].id}"
            raise IncomparableRuns(where, f"{there}, or not the same ones; evaluate both on one corpus")
        made, recorded = float(figure(sums.sum(axis=0))), entry.primary(task, split).value
        if abs(made - recorded) > ROUNDING:
            raise IncomparableRuns(
                where, f"make {made} in {entry.id}, but metrics.json says {recorded}; run its page again"
            )
    return tables[0][0], np.stack([sums for _, sums in tables])


def _in_every_run(entry: Entry, task: str, split: str) -> dict[str, Any]:
    """Field -> value of all that both arms share. Equal tuning may have found different settings."""
    config, metric = entry.config, entry.primary(task, split)
    fields = flat({name: entry[name] for name in IN_EVERY_RUN})
    fields |= flat({name: config[name] for name in CONFIG_IN_EVERY_RUN}, "config")
    fields |= flat({name: config["strategy"][name] for name in STRATEGY_IN_EVERY_RUN}, "config.strategy")
    fields |= flat(config["tasks"][task], f"config.tasks.{task}")
    fields[f"data_hashes.{task}"] = entry["data_hashes"].get(task)
    fields[f"left_out.{task}"] = left_out_of(entry.manifest, task)
    fields["decisions.dtype"] = entry.manifest.get("decisions", {}).get("dtype", [None])[0]
    fields |= {"metrics.scorer": metric.scorer, "metrics.n": metric.n, "metrics.unit": metric.unit}
    free = MAKES_A_CONTROL | (TUNED if entry["tuning"]["trials"] else set())
    return {name: value for name, value in fields.items() if name not in free}


def _in_arm(entry: Entry, task: str, split: str) -> dict[str, Any]:
    """Field -> value of what the runs of one arm share beyond that."""
    fields = {name: entry[name] for name in ("page", "strategy", "tasks")}
    searched = flat({"config": {"training": entry.config["training"]}, "tuning": entry["tuning"]})
    fields |= {name: value for name, value in searched.items() if name in TUNED}
    return fields | flat(entry.config["strategy"], "config.strategy")


def _assert_same(
    fields: Callable[..., dict[str, Any]], one: Entry, other: Entry, task: str, split: str
) -> None:
    mine, theirs = fields(one, task, split), fields(other, task, split)
    for name in mine | theirs:
        if mine.get(name) != theirs.get(name):
            values = f"{mine.get(name)!r} in {one.id} but {theirs.get(name)!r} in {other.id}"
            raise IncomparableRuns(
                name,
                f"{values}; the comparison holds it fixed: "
                "train again the runs that differ, or keep them in another folder",
            )


def _assert_unselected(entry: Entry, split: str) -> None:
    """Nothing about a run was chosen by the figures that it reports."""
    selection = entry["selection"]
    if selection["rule"] not in ("last", "best"):
        raise IncomparableRuns("selection.rule", f"{selection['rule']!r} in {entry.id}; allowed: last, best")
    what = {
        "selection.split": ("chose its weights", "train with training.selection=last, or report"),
        "tuning.split": ("was tuned", "report"),
        "choice.split": ("chose its strategy", "report"),
    }
    for field, chosen in chosen_on(entry).items():
        if chosen == split:
            did, then = what[field]
            raise IncomparableRuns(
                field,
                f"{entry.id} {did} on {split!r}, the split that is reported; {then} another by "
                "profile.report, and judge that one by --split",
            )


def _assert_seeds(arms: Arms) -> None:
    """Every arm has the same seeds, each once, and at least two."""
    if "total" not in arms.controls:
        raise IncomparableRuns(
            "twin.control",
            f"no control of the total tokens; these are of {', '.join(arms.controls)}: train those of "
            "experiment.control=total",
        )
    if unknown := arms.controls.keys() - set(CONTROLS):
        raise IncomparableRuns(
            "twin.control", f"{', '.join(sorted(unknown))}; allowed: {', '.join(CONTROLS)}"
        )
    wanted = [entry.seed for entry in arms.multi_task]
    _assert_seeds_once(wanted, arms.multi_task[0]["strategy"])
    for control, tasks in arms.controls.items():
        if control != "placebo" and tasks.keys() != set(arms.tasks):
            values = f"{arms.tasks} in the multi-task runs but {list(tasks)} in the {control} controls"
            raise IncomparableRuns(
                "tasks",
                f"{values}; a verdict is on the whole family: train the controls "
                "of the other tasks, or name another arm by --multi-task",
            )
        for task, entries in tasks.items():
            found = [entry.seed for entry in entries]
            _assert_seeds_once(found, f"the {control} control of {task}")
            if found != wanted:
                values = f"{wanted} in the multi-task runs but {found} in the {control} control of {task}"
                raise IncomparableRuns("seed", f"{values}; train the missing ones")


def _assert_seeds_once(seeds: Sequence[int], arm: str) -> None:
    if twice := [seed for seed, times in Counter(seeds).items() if times > 1]:
        raise IncomparableRuns(
            "seed", f"{twice[0]} more than once in {arm}; a repeated run is no further seed, move it away"
        )
    if len(seeds) < FEWEST_SEEDS:
        few = f"only {seeds} in {arm}; at least {FEWEST_SEEDS} per arm are needed"
        raise IncomparableRuns(
            "seed", f"{few}, or luck in training cannot be told from an effect: train more"
        )


def _assert_tokens(control: str, task: str, multi: Entry, twin: Entry) -> None:
    """The control trained what the multi-task run trained, to the token, on one task."""
    tokens = multi["totals"]["tokens"]
    target = tokens[task] if control == "share" else sum(tokens.values())
    placebo = control == "placebo"  # it trains on all tasks, with the labels of the others permuted
    wanted = {
        "twin.of_config": (twin["twin"]["of_config"], multi["config_hash"]),
        "seed": (twin.seed, multi.seed),
        "tasks": (twin["tasks"], multi["tasks"] if placebo else [task]),
        "twin.target_tokens": (twin["twin"]["target_tokens"], target),
        "config.training.target_tokens": (twin.config["training"]["target_tokens"], target),
        "token_parity_error": (twin["token_parity_error"], 0),
        "totals.tokens": (twin["totals"]["tokens"], tokens if placebo else {task: target}),
    }
    for field, (found, expected) in wanted.items():
        if found != expected:
            raise IncomparableRuns(
                field, f"{found!r} in {twin.id} but {expected!r} by {multi.id}; train the control again"
            )
    if multi.manifest.get("token_parity_error", 0) != 0:
        raise IncomparableRuns(
            "token_parity_error", f"{multi['token_parity_error']} in {multi.id}; allowed: 0, train it again"
        )


def _assert_parameters(task: str, multi: Entry, twin: Entry) -> None:
    """As many parameters learn from a token of the task in either arm, and in a control no others."""
    theirs, own = (entry["active_parameters"].get(task, 0) for entry in (multi, twin))
    trained = twin["totals"]["trainable_parameters"]
    for field, count in ((f"active_parameters.{task}", own), ("totals.trainable_parameters", trained)):
        if abs(count - theirs) > PARITY * theirs:
            values = f"{count:,} in {twin.id} but {theirs:,} for a token of {task} in {multi.id}"
            raise IncomparableRuns(
                field,
                f"{values}; they may be {PARITY:.0%} apart: train the "
                "control again by the page token_controlled",
            )
    if multi["totals"]["trainable_parameters"] < theirs:
        values = (
            f"{multi['totals']['trainable_parameters']:,} in {multi.id}, fewer than its active {theirs:,}"
        )
        raise IncomparableRuns("totals.trainable_parameters", f"{values}; run its page again")
