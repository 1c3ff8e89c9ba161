"""What a control trains on: the steps that follow from its multi-task run, and labels that are a placebo's.

    encoded = control_plan.labelled(config, encoded)            # permuted labels, in a placebo alone
    plan = control_plan.plan_control(multi, config, encoded)    # asserted before anything trains

Steps and tokens are read from the multi-task run's `tokens.jsonl`, which its manifest must confirm.
"""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import numpy as np

from kaggle_kit.batches.encoded import EncodedTask
from kaggle_kit.batches.pace import StepTargets
from kaggle_kit.batches.placebo import placebo
from kaggle_kit.batches.plan import COUNTS, StepPlan
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import ConfigError, RunFolderError
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.experiment import preparation
from kaggle_kit.experiment.controlled_variables import PLACEBO, control_kind, scored_config

LOGGED = dict(zip(COUNTS, ("tokens", "computed"), strict=True))  # count -> field of a line of tokens.jsonl
TOTALS = dict(zip(COUNTS, ("tokens", "computed_tokens"), strict=True))  # and of the manifest's totals


def matched(config: RunConfig) -> str:
    """Which tokens the arms of a comparison have in common: `presented` or `computed`. ConfigError."""
    if (count := config.experiment.get("match", COUNTS[0])) not in COUNTS:
        raise ConfigError(f"experiment.match is {count!r}; allowed: {', '.join(COUNTS)}")
    return count


def step_targets(multi: RunFolder, config: RunConfig) -> StepTargets:
    """The pace of a control: that of its multi-task run, or that scaled to the tokens of its share.

    RunFolderError where the run's log and manifest disagree, ConfigError where the run's tokens are not
    those that the configuration was settled on.
    """
    field = LOGGED[matched(config)]
    course = StepTargets.of(sum(line[field].values()) for line in logged_steps(multi))
    if control_kind(config) == PLACEBO:
        return course
    tokens = config.training.target_tokens or 0
    targets = course if control_kind(config) == "total" else course.scaled(tokens)
    if targets.total != tokens:
        has = f"{multi.run_id} has {targets.total:,} {matched(config)} tokens"
        raise ConfigError(f"training.target_tokens is {tokens:,}, but {has}; start the control again")
    return targets


def ledgers(multi: RunFolder, config: RunConfig, plan: StepPlan) -> dict[str, list[dict[str, int]]]:
    """Run -> tokens of each of its steps by task, as the comparison counts them: both, for a page."""
    count = matched(config)
    return {
        "multi-task run": [line[LOGGED[count]] for line in logged_steps(multi)],
        "control": [step.counted(count) for step in plan.steps],
    }


def pace(multi: RunFolder, config: RunConfig, plan: StepPlan) -> list[dict[str, int]]:
    """One row a step of the control: the tokens to have read by its end, those read, and the difference.

    Whole passages bring a step near its mark and not onto it; the last step ends on it.
    """
    marks = step_targets(multi, config).ends
    own = [sum(step.counted(matched(config)).values()) for step in plan.steps]
    return [
        {"step": number, "tokens": tokens, "read so far": read, "mark": mark, "ahead": read - mark}
        for number, (tokens, read, mark) in enumerate(zip(own, accumulate(own), marks, strict=True), 1)
    ]


def logged_steps(multi: RunFolder) -> list[dict[str, Any]]:
    """The lines of `tokens.jsonl`, one a step. RunFolderError unless the manifest says the same."""
    lines, manifest = multi.tokens(), multi.manifest()
    if [line["step"] for line in lines] != list(range(1, manifest["optimiser_steps"] + 1)):
        counts = f"{len(lines)} steps and the manifest {manifest['optimiser_steps']}"
        raise RunFolderError(f"{multi.tokens_jsonl} has {counts}: one was edited or cut; run its page again")
    for count, field in LOGGED.items():
        recorded = manifest["totals"][TOTALS[count]]
        found = {task: sum(line[field].get(task, 0) for line in lines) for task in recorded}
        if found != recorded:
            says = f"add up to {found}, but the manifest's totals.{TOTALS[count]} is {recorded}"
            raise RunFolderError(f"{multi.tokens_jsonl}: {field} {says}: one was edited; run its page again")
    return lines


def plan_control(multi: RunFolder, config: RunConfig, encoded: Mapping[str, EncodedTask]) -> StepPlan:
    """Every step of a control. Parity of steps and tokens is asserted here, before anything trains.

    A baseline follows the run's steps; a placebo repeats its plan. Raises ConfigError naming both numbers.
    """
    if control_kind(config) == PLACEBO:
        plan = preparation.plan_training(config, encoded)
        planned: Any = [dict(step.tokens) for step in plan.steps]
        wanted: Any = [line["tokens"] for line in logged_steps(multi)]
    else:
        targets = step_targets(multi, config)
        plan = preparation.plan_training(config, encoded, targets=targets)
        planned = len(plan), plan.counted(matched(config))
        wanted = len(targets), dict.fromkeys(config.tasks, targets.total)
    if planned != wanted:
        plans = f"steps and tokens are {_brief(planned)}, but {_brief(wanted)} follow from {multi.run_id}"
        raise ConfigError(f"the plan's {plans}: its corpus or settings are not these; train that run again")
    return plan


def labelled(config: RunConfig, encoded: Mapping[str, EncodedTask]) -> Mapping[str, EncodedTask]:
    """The training split with the labels that the control learns from: a placebo's partners get others."""
    if control_kind(config) != PLACEBO:
        return encoded
    seeds = np.random.SeedSequence(config.seed).spawn(len(encoded))
    return {
        name: task if name in scored_config(config).tasks else placebo(task, np.random.default_rng(seed))
        for (name, task), seed in zip(encoded.items(), seeds, strict=True)
    }


def _brief(found: Any) -> str:
    text = str(found)
    return text if len(text) < 200 else f"{text[:150]}… of {len(found)} steps"
