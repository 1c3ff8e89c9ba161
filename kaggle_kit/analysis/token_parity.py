"""The conditions on a token-controlled baseline and its run, beyond the table of `comparability`.

assert_controlled(arms)      # IncomparableRuns: "token_parity_error: 3 in … but 0 by …; train it again"

A control has its multi-task run's configuration hash, seed and, to the token, its tokens; and as many
parameters learn from a token in it. Every seed has a control of every task.
"""

from kaggle_kit.analysis.comparability import MAX_PARAMETER_GAP, assert_comparable
from kaggle_kit.analysis.survivorship import Unfinished, lost
from kaggle_kit.analysis.verdict_inputs import CONTROLS, Arms, Entry
from kaggle_kit.analysis.verdict_rule import FEWEST_SEEDS, Control
from kaggle_kit.core.errors import IncomparableRuns


def assert_controlled(arms: Arms, as_they_stand: bool = False) -> tuple[Unfinished, list[int]]:
    """Refuse the arms of a verdict at the first field that differs, is missing, or betrays a selection.

    Returns the unfinished runs of each arm, and all seeds: with `as_they_stand`, those that were lost, too.
    """
    _assert_family(arms)
    by_id = {entry.id: entry for entry in arms.multi_task}
    unfinished: Unfinished = {}
    seeds = {entry.seed for entry in arms.multi_task}
    for control, tasks in arms.controls.items():
        for task, entries in tasks.items():
            both = {"multi-task runs": arms.multi_task, f"{control} control of {task}": entries}
            own_unfinished, missing = lost(control, both, as_they_stand)
            unfinished, seeds = unfinished | own_unfinished, seeds | missing
            for name, runs in both.items():
                if len(runs) < FEWEST_SEEDS:
                    only = f"only {[run.seed for run in runs]} in {name}; at least {FEWEST_SEEDS} per arm"
                    why = "are needed, or luck in training cannot be told from an effect: train more"
                    raise IncomparableRuns("seed", f"{only} {why}")
            assert_comparable(control, both, [task], arms.split, missing)
            for entry in entries:
                assert_token_parity(by_id[entry["twin"]["of"]], entry, task)
    return unfinished, sorted(seeds)


def assert_token_parity(multi: Entry, control: Entry, task: str) -> None:
    """Refuse a control of a task that did not train what its multi-task run trained, to the token.

    A placebo trains on all tasks, the labels of the others permuted; any other control on the one alone, and
    no more parameters than a token of the task passes in the multi-task run.
    """
    kind = control["twin"]["control"]
    matched = "computed_tokens" if control.config["experiment"].get("match") == "computed" else "tokens"
    tokens = multi["totals"][matched]
    target = tokens[task] if kind == Control.SHARE else sum(tokens.values())
    conditions = {
        "twin.of_config": (control["twin"]["of_config"], multi["config_hash"]),
        "seed": (control.seed, multi.seed),
        "twin.target_tokens": (control["twin"]["target_tokens"], target),
    }
    placebo = kind == Control.PLACEBO
    if not placebo:
        conditions["config.training.target_tokens"] = (control.config["training"]["target_tokens"], target)
        conditions["token_parity_error"] = (control["token_parity_error"], 0)
    conditions["tasks"] = (control["tasks"], multi["tasks"] if placebo else [task])
    conditions[f"totals.{matched}"] = (control["totals"][matched], tokens if placebo else {task: target})
    for field, (value, expected) in conditions.items():
        if value != expected:
            differ = f"{value!r} in {control.id} but {expected!r} by {multi.id}"
            raise IncomparableRuns(field, f"{differ}; train the control again")
    if error := multi.manifest.get("token_parity_error", 0):
        raise IncomparableRuns("token_parity_error", f"{error} in {multi.id}; allowed: 0, train it again")
    if placebo:  # which is the very model of its multi-task run
        return
    field, active = "totals.trainable_parameters", multi["active_parameters"][task]
    own, whole = (run["totals"]["trainable_parameters"] for run in (control, multi))
    if abs(own - active) > MAX_PARAMETER_GAP * active:
        differ = f"{own:,} in {control.id} but {active:,} for a token of {task} in {multi.id}"
        then = f"allowed: {MAX_PARAMETER_GAP:.0%} apart; train the control again by the page token_controlled"
        raise IncomparableRuns(field, f"{differ}; {then}")
    if whole < active:
        why = f"{whole:,} in {multi.id}, fewer than its active {active:,}"
        raise IncomparableRuns(field, f"{why}; run its page again")


def _assert_family(arms: Arms) -> None:
    """Refuse unknown kinds of control, a lack of total controls, and controls that lack a task."""
    kinds = ", ".join(arms.controls)
    if Control.TOTAL not in arms.controls:
        why = f"no control of the total tokens; these are of {kinds}"
        raise IncomparableRuns("twin.control", f"{why}: train those of experiment.control=total")
    if not arms.controls.keys() <= set(CONTROLS):
        raise IncomparableRuns("twin.control", f"these are of {kinds}; allowed: {', '.join(CONTROLS)}")
    for control, tasks in arms.controls.items():
        if control != Control.PLACEBO and tasks.keys() != set(arms.tasks):
            values = f"{arms.tasks} in the multi-task runs but {list(tasks)} in the {control} controls"
            then = "train the controls of the other tasks, or name another arm by --multi-task"
            raise IncomparableRuns("tasks", f"{values}; a verdict is on the whole family: {then}")
