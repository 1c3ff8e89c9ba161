"""The verdict in sentences, made from its document alone.

for sentence in (*in_words(document), *training_in_words(document)): print(sentence)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from kaggle_kit.analysis.verdict_rule import (
    BEST,
    EXPOSURE,
    GENUINE,
    NEGATIVE,
    PLACEBO,
    PLACEBO_GAIN,
    REGULARISATION,
    SHARE,
    STRONGEST,
    TOTAL,
    UNDECIDED,
)

TOYS = ("smoke", "practice")
CLAIMS = {
    GENUINE: "better than one task alone at equal tokens, at its best point, and at its own share of them",
    NEGATIVE: "worse than one task alone at equal tokens",
    EXPOSURE: "as good as one task alone at equal tokens",
    REGULARISATION: "better than one task alone at equal tokens, but so are partners with permuted labels",
}
CONTROLS = {
    TOTAL: "the control with as many tokens, at its last step",
    BEST: "the control with as many tokens, at its best development point",
    SHARE: "the control with its own share of the tokens",
    PLACEBO: "the placebo, whose partner tasks have permuted labels",
    STRONGEST: "the strongest control of each task, which is not the same one everywhere",
    PLACEBO_GAIN: "of the placebo over the control with as many tokens",
}


def in_words(document: Mapping[str, Any]) -> Iterator[str]:
    """What the verdict may be taken for; then a sentence or more on every task, and on all tasks."""
    if toys := [mark for mark in TOYS if mark in document.get("marks", ())]:
        yield f"NOT A RESULT: these are {' and '.join(toys)} runs."
    if not document["tasks"]:
        yield f"{document['verdict']}: {document['reason']}."
        return
    yield from _declaration(document)
    for task, found in document["tasks"].items():
        yield f"{task}: {_sentence(found, document, '', task)}"
    unit = " of the way from the trivial baseline to the best published score, on average over tasks"
    yield f"all tasks: {_sentence(document['overall'], document, unit)}"
    if without := document.get("overall_without"):
        names = ", ".join(document["comparison"]["sharing_notes"])
        yield f"all tasks but {names}, which shares notes with another: {_sentence(without, document, unit)}"


def marked(document: Mapping[str, Any], word: str) -> str:
    """A verdict's word as it may be shown: with a mark where the seeds are not the declared ones."""
    return f"{word} (interim)" if document.get("interim") else word


def gains_in_words(document: Mapping[str, Any]) -> Iterator[str]:
    """Where a gain over the task's own share of the tokens comes from; nothing without that control."""
    for task, found in document["tasks"].items():
        if SHARE in found["contrasts"]:
            yield f"{task}: {decomposition(found['contrasts'])}"


def decomposition(contrasts: Mapping[str, Any]) -> str:
    """The gain over the task's own share of tokens, split at the control of all tokens."""
    share, total = (contrasts[name]["difference"] for name in (SHARE, TOTAL))
    return (
        f"{_signed(share)} against the control with only its own share of the tokens, of which "
        f"{_signed(share - total)} comes with more tokens of the same task and "
        f"{_signed(total)} with those of other tasks."
    )


def training_in_words(document: Mapping[str, Any]) -> Iterator[str]:
    """How the arms trained, and what there is to warn of."""
    for task, arms in document.get("training", {}).items():
        for name, arm in arms.items():
            yield f"{task}, {name}: {_trained(arm)}."
    yield from warnings_in_words(document)


def warnings_in_words(document: Mapping[str, Any]) -> Iterator[str]:
    """Where arms differ by more than their tasks, and which runs lie apart from their arm."""
    for task, arms in document.get("training", {}).items():
        yield from (f"WARNING: {task}: {warning}." for warning in _unequal(arms))
    for run in document.get("outliers", ()):
        yield (
            f"WARNING: {run['run_id']} (seed {run['seed']}) lies apart from its arm, {run['arm']} of "
            f"{run['task']}: {run['figure']} {run['value']:.4g}, the arm's median is {run['median']:.4g}."
        )


def undecided_in_words(document: Mapping[str, Any]) -> Iterator[str]:
    """What would decide each member that is undecided: controls to beat or to train, seeds, documents."""
    for name, found in (document["tasks"] | {"all tasks": document.get("overall")}).items():
        if found and found["verdict"] == UNDECIDED:
            task = name if name in document["tasks"] else ""
            if found["specification"] == GENUINE:
                steps = [*_why_not(found, document, task)]
            else:
                steps = ["No test shows a side.", *_not_there(found, document, task)]
            if "more_seeds" in found:
                steps.append(_more(found, document["rule"]))
            yield f"{name}: {' '.join(steps)}"


def _declaration(document: Mapping[str, Any]) -> Iterator[str]:
    """By which seeds, looks and estimand it was decided."""
    rule, seeds = document["rule"], document["comparison"]["seeds"]
    if document["interim"]:
        judged = ", ".join(map(str, seeds))
        yield f"INTERIM: judged on seeds {judged}; {document['interim']}."
    elif rule["looks"]:
        look, looks = list(rule["looks"]).index(len(seeds)) + 1, len(rule["looks"])
        yield f"Look {look} of {looks}, at level {rule['level']:.4f}; all looks together: {rule['alpha']:g}."
    if rule["estimand"] == "trimmed":
        yield "The declared estimand is the 20 % trimmed mean over seeds (Yuen's test)."


def _sentence(found: Mapping[str, Any], document: Mapping[str, Any], unit: str, task: str = "") -> str:
    rule, verdict = document["rule"], found["verdict"]
    shown = marked(document, verdict)
    low, high = found["interval"]
    confidence = f"{100 * (1 - rule['level']):.4g} %"
    estimate = (
        f"{_signed(found['difference'])}{unit}, {confidence} interval {_signed(low)} to {_signed(high)}"
    )
    there = f"test of no difference: p = {found['p_holm']:.3g}"
    within = f"test of a difference beyond ±{found['margin']:.4g}: p = {found['equivalence_p_holm']:.3g}"
    beside = _other_estimand(found, rule)
    if verdict == GENUINE:
        small = ", though shown to be smaller than the margin" if found["within_margin"] else ""
        all_ = f"{there}; of all controls: p = {found['transfer_p_holm']:.3g}"
        return f"{shown} — {CLAIMS[verdict]}{small}: {estimate} ({all_}).{beside}"
    if verdict in (NEGATIVE, EXPOSURE):
        test = there if verdict == NEGATIVE else within
        return f"{shown} — {CLAIMS[verdict]}: {estimate} ({test}).{beside}"
    if found["specification"] == GENUINE:
        claim = CLAIMS.get(verdict, "better than one task alone at equal tokens, and no more is shown")
        why = " ".join(_why_not(found, document, task))
        rest = f" {_more(found, rule)}" if "more_seeds" in found else ""
        return (
            f"{shown} — {claim}: {estimate} ({there}). By the specification's rule alone: {GENUINE}. "
            f"{why}{rest}{beside}"
        )
    return f"{shown} — neither is shown: {estimate} ({there}; {within}). {_more(found, rule)}{beside}"


def _why_not(found: Mapping[str, Any], document: Mapping[str, Any], task: str) -> Iterator[str]:
    """Which controls are not beaten, and what to run for those that are not there."""
    for control in found["failed"]:
        contrast = found["contrasts"][control]
        yield (
            f"Not shown to beat {CONTROLS[control]}: {_signed(contrast['difference'])} "
            f"(p = {contrast['p_value']:.3g} before Holm)."
        )
    if found["verdict"] == REGULARISATION:
        gain = found["contrasts"][PLACEBO_GAIN]["difference"]
        yield f"The gain {CONTROLS[PLACEBO_GAIN]} is {_signed(gain)}."
    yield from _not_there(found, document, task)


def _not_there(found: Mapping[str, Any], document: Mapping[str, Any], task: str) -> Iterator[str]:
    """The commands that train the missing controls."""
    for control in found["missing"]:
        yield f"There is none of {CONTROLS[control]}: {_to_run(control, document, task or 'TASK')}."


def _to_run(control: str, document: Mapping[str, Any], task: str) -> str:
    if control == BEST:
        return "run the controls of experiment.control=total again, they keep no best development point"
    run, *_ = document["comparison"]["multi_task_runs"]
    return (
        f"for each seed `run token_controlled --task {task} experiment=token_controlled "
        f"experiment.control={control} experiment.twin={run}`"
    )


def _more(found: Mapping[str, Any], rule: Mapping[str, Any]) -> str:
    given = f"Were the difference as estimated, {rule['power']:.0%} power would take"
    if not found.get("more_seeds"):
        return f"{given} more documents or a larger difference: no number of seeds is enough."
    more = f"{given} {found['more_seeds']} more seed(s) beside the {found['seeds']} there are."
    if found["seeds"] in rule["looks"][:-1]:
        return f"{more} The next declared look costs no further error."
    error = f"{100 * found['second_look_error']:.2g} % instead of {100 * rule['level']:.2g} %"
    return f"{more} A second look costs error: {error}, unless experiment.looks declares it beforehand."


def _other_estimand(found: Mapping[str, Any], rule: Mapping[str, Any]) -> str:
    """The estimand that does not decide, in a clause where it would say something else."""
    (other,) = found["estimands"].keys() - {rule["estimand"]}
    beside = found["estimands"][other]
    if beside["verdict"] == found["verdict"]:
        return ""
    low, high = beside["interval"]
    name = "20 % trimmed mean" if other == "trimmed" else "plain mean"
    return (
        f" By the {name} over seeds, which was not declared to decide: {beside['verdict']}, "
        f"{_signed(beside['difference'])}, interval {_signed(low)} to {_signed(high)}."
    )


def _trained(arm: Mapping[str, Any]) -> str:
    loss = fmean(arm["final_training_loss"])
    curve = _mean_curve(arm["development"])
    ends = f", development {curve[0]:.3f} … {max(curve):.3f} … {curve[-1]:.3f}" if curve else ""
    return (
        f"{_span(arm['optimiser_steps'])} steps, {_span(arm['epochs_over_own_data'])} epochs over its own "
        f"data, final training loss {loss:.3g}{ends}"
    )


def _mean_curve(curves: Sequence[Sequence[Sequence[Any]]]) -> list[float]:
    """The mean over seeds at each share of the budget; nothing where a point was not scored."""
    points = [[score for _, score in curve] for curve in curves]
    if not points or len({len(curve) for curve in points}) > 1 or any(None in curve for curve in points):
        return []
    return [fmean(scores) for scores in zip(*points, strict=True)]


def _unequal(arms: Mapping[str, Any]) -> Iterator[str]:
    multi = arms["multi_task"]
    for name in (TOTAL, PLACEBO):
        if name in arms and arms[name]["optimiser_steps"] != multi["optimiser_steps"]:
            one, other = (_span(arm["optimiser_steps"]) for arm in (multi, arms[name]))
            yield f"the multi-task runs took {one} steps and its {name} control {other}; they should be equal"
    if (curve := _mean_curve(arms[TOTAL]["development"])) and curve[-1] < max(curve):
        yield (
            f"the total control's development score fell from {max(curve):.4f} to {curve[-1]:.4f} at its "
            "end; its best point is a control of its own"
        )


def _span(values: Sequence[float]) -> str:
    low, high = (
        f"{end:,.3g}" if isinstance(end, float) else f"{end:,}" for end in (min(values), max(values))
    )
    return low if low == high else f"{low} to {high}"


def _signed(value: float) -> str:
    return f"{value:+.4f}"
