"""The verdict in sentences, made from its document alone.

for sentence in (*in_words(document), *training_in_words(document)): print(sentence)
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from kaggle_kit.analysis.overview import TOYS
from kaggle_kit.analysis.verdict_rule import PLACEBO_GAIN, Control, Verdict

BETTER = "better than one task alone at equal tokens"
CLAIMS = {
    Verdict.GENUINE: f"{BETTER}, at its best point, and at its own share of them",
    Verdict.NEGATIVE: "worse than one task alone at equal tokens",
    Verdict.EXPOSURE: "as good as one task alone at equal tokens",
    Verdict.REGULARISATION: f"{BETTER}, but so are partners with permuted labels",
    Verdict.UNDECIDED: "neither is shown",
}
CONTROLS = {
    Control.TOTAL: "the control with as many tokens, at its last step",
    Control.BEST: "the control with as many tokens, at its best development point",
    Control.SHARE: "the control with its own share of the tokens",
    Control.PLACEBO: "the placebo, whose partner tasks have permuted labels",
    Control.STRONGEST: "the strongest control of each task, which is not the same one everywhere",
}
TRAIN = (
    "for each seed `run token_controlled --task {task} experiment=token_controlled "
    "experiment.control={control} experiment.twin={run}`"
)
TRAIN_AGAIN = "run the controls of experiment.control=total again, they keep no best development point"


def in_words(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield how far the verdict counts, then a sentence or more on every task and on all tasks."""
    yield from toys_in_words(document)
    if not document["tasks"]:
        yield f"{document['verdict']}: {document['reason']}."
        return
    yield from _declaration(document)
    for task, member in document["tasks"].items():
        yield f"{task}: {_sentence(member, document, '', task)}"
    unit = " of the way from the trivial baseline to the best published score, on average over tasks"
    yield f"all tasks: {_sentence(document['overall'], document, unit)}"
    if without := document.get("overall_without"):
        names = ", ".join(document["comparison"]["sharing_notes"])
        yield f"all tasks but {names}, which shares notes with another: {_sentence(without, document, unit)}"


def toys_in_words(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield a warning that smoke or practice runs are no results, where a document judges any."""
    if toys := [mark for mark in TOYS if mark in document.get("marks", ())]:
        yield f"NOT A RESULT: these are {' and '.join(toys)} runs."


def with_interim_mark(document: Mapping[str, Any], word: str) -> str:
    """Return a verdict's word, with a mark where the seeds are not the declared ones."""
    return f"{word} (interim)" if document.get("interim") else word


def gains_in_words(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the parts of each gain over the control with the task's own share of the tokens."""
    for task, member in document["tasks"].items():
        if Control.SHARE in member["contrasts"]:
            share, total = (member["contrasts"][it]["difference"] for it in (Control.SHARE, Control.TOTAL))
            yield (
                f"{task}: {share:+.4f} against the control with only its own share of the tokens, of which "
                f"{share - total:+.4f} comes with more tokens of the same task and "
                f"{total:+.4f} with those of other tasks."
            )


def training_in_words(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield how each arm of each task trained, then the warnings."""
    for task, arms in document.get("training", {}).items():
        for name, arm in arms.items():
            curve = _mean_curve(arm["development"])
            ends = f", development {curve[0]:.3f} … {max(curve):.3f} … {curve[-1]:.3f}" if curve else ""
            yield (
                f"{task}, {name}: {_span(arm['optimiser_steps'])} steps, "
                f"{_span(arm['epochs_over_own_data'])} epochs over its own data, "
                f"final training loss {fmean(arm['final_training_loss']):.3g}{ends}."
            )
    yield from warnings_in_words(document)


def warnings_in_words(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield warnings of arms that differ by more than their tasks, and of runs apart from their arm."""
    for task, arms in document.get("training", {}).items():
        steps = {name: arm["optimiser_steps"] for name, arm in arms.items()}
        for name in (Control.TOTAL, Control.PLACEBO):
            if name in steps and steps[name] != steps["multi_task"]:
                took = f"{_span(steps['multi_task'])} steps and its {name} control {_span(steps[name])}"
                yield f"WARNING: {task}: the multi-task runs took {took}; they should be equal."
        curve = _mean_curve(arms[Control.TOTAL]["development"])
        if curve and curve[-1] < max(curve):
            yield (
                f"WARNING: {task}: the total control's development score fell from {max(curve):.4f} to "
                f"{curve[-1]:.4f} at its end; its best point is a control of its own."
            )
    for run in document.get("outliers", ()):
        yield (
            f"WARNING: {run['run_id']} (seed {run['seed']}) lies apart from its arm, {run['arm']} of "
            f"{run['task']}: {run['figure']} {run['value']:.4g}, the arm's median is {run['median']:.4g}."
        )


def undecided_in_words(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the next steps for each undecided member: controls to beat or to train, seeds, documents."""
    for name, member in (document["tasks"] | {"all tasks": document.get("overall")}).items():
        if member and member["verdict"] == Verdict.UNDECIDED:
            reason = [] if member["specification"] == Verdict.GENUINE else ["No test shows a side."]
            task = name if name in document["tasks"] else ""
            yield f"{name}: {' '.join([*reason, *_next_steps(member, document, task)])}"


def _declaration(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the seeds, looks and estimand of the decision, where a reader has to know of them."""
    rule, seeds = document["rule"], document["comparison"]["seeds"]
    if document["interim"]:
        numbers = ", ".join(map(str, seeds))
        yield f"INTERIM: judged on seeds {numbers}; {document['interim']}."
    elif rule["looks"]:
        look, looks = list(rule["looks"]).index(len(seeds)) + 1, len(rule["looks"])
        yield f"Look {look} of {looks}, at level {rule['level']:.4f}; all looks together: {rule['alpha']:g}."
    if rule["estimand"] == "trimmed":
        yield "The declared estimand is the 20 % trimmed mean over seeds (Yuen's test)."


def _sentence(member: Mapping[str, Any], document: Mapping[str, Any], unit: str, task: str = "") -> str:
    """Put a verdict, its claim, its estimate and its tests into words, and the next steps if undecided."""
    rule, verdict = document["rule"], member["verdict"]
    only_total = member["specification"] != verdict  # a gain that another control explains
    claim = CLAIMS[verdict]
    if verdict == Verdict.UNDECIDED and only_total:
        claim = f"{BETTER}, and no more is shown"
    if verdict == Verdict.GENUINE and member["within_margin"]:
        claim += ", though shown to be smaller than the margin"
    low, high = member["interval"]
    interval = f"{100 * (1 - rule['level']):.4g} % interval {low:+.4f} to {high:+.4f}"
    there = f"test of no difference: p = {member['p_holm']:.3g}"
    within = f"test of a difference beyond ±{member['margin']:.4g}: p = {member['equivalence_p_holm']:.3g}"
    tests = {
        Verdict.GENUINE: f"{there}; of all controls: p = {member['transfer_p_holm']:.3g}",
        Verdict.EXPOSURE: within,
        Verdict.UNDECIDED: there if only_total else f"{there}; {within}",
    }.get(verdict, there)
    word = with_interim_mark(document, verdict)
    sentences = [f"{word} — {claim}: {member['difference']:+.4f}{unit}, {interval} ({tests})."]
    if only_total:
        sentences += [
            f"By the specification's rule alone: {Verdict.GENUINE}.",
            *_next_steps(member, document, task),
        ]
    elif verdict == Verdict.UNDECIDED:
        sentences.append(_more_seeds(member, rule))
    return " ".join([*sentences, *_other_estimand(member, rule)])


def _next_steps(member: Mapping[str, Any], document: Mapping[str, Any], task: str) -> Iterator[str]:
    """Yield the controls that a gain does not beat, the runs for those missing, and the seeds needed."""
    for control in member["failed"] if member["specification"] == Verdict.GENUINE else ():
        contrast = member["contrasts"][control]
        figures = f"{contrast['difference']:+.4f} (p = {contrast['p_value']:.3g} before Holm)"
        yield f"Not shown to beat {CONTROLS[control]}: {figures}."
    if member["verdict"] == Verdict.REGULARISATION:
        gain = member["contrasts"][PLACEBO_GAIN]["difference"]
        yield f"The gain of the placebo over the control with as many tokens is {gain:+.4f}."
    for control in member["missing"]:
        run, *_ = document["comparison"]["multi_task_runs"]
        train = TRAIN.format(task=task or "TASK", control=control, run=run)
        yield f"There is none of {CONTROLS[control]}: {TRAIN_AGAIN if control == Control.BEST else train}."
    if "more_seeds" in member:
        yield _more_seeds(member, document["rule"])


def _more_seeds(member: Mapping[str, Any], rule: Mapping[str, Any]) -> str:
    condition = f"Were the difference as estimated, {rule['power']:.0%} power would take"
    if not member["more_seeds"]:
        return f"{condition} more documents or a larger difference: no number of seeds is enough."
    more = f"{condition} {member['more_seeds']} more seed(s) beside the {member['seeds']} there are."
    if member["seeds"] in rule["looks"][:-1]:
        return f"{more} The next declared look costs no further error."
    error = f"{100 * member['second_look_error']:.2g} % instead of {100 * rule['level']:.2g} %"
    return f"{more} A second look costs error: {error}, unless experiment.looks declares it beforehand."


def _other_estimand(member: Mapping[str, Any], rule: Mapping[str, Any]) -> Iterator[str]:
    """Yield the verdict by the other estimand, where it differs from the declared one's."""
    (other,) = member["estimands"].keys() - {rule["estimand"]}
    beside = member["estimands"][other]
    if beside["verdict"] != member["verdict"]:
        low, high = beside["interval"]
        name = "20 % trimmed mean" if other == "trimmed" else "plain mean"
        yield (
            f"By the {name} over seeds, which was not declared to decide: {beside['verdict']}, "
            f"{beside['difference']:+.4f}, interval {low:+.4f} to {high:+.4f}."
        )


def _mean_curve(curves: Sequence[Sequence[Sequence[Any]]]) -> list[float]:
    """Return the mean over seeds at each share of the budget; nothing where a point was not scored."""
    points = [[score for _, score in curve] for curve in curves]
    if not points or len({len(curve) for curve in points}) > 1 or any(None in curve for curve in points):
        return []
    return [fmean(scores) for scores in zip(*points, strict=True)]


def _span(values: Sequence[float]) -> str:
    ends = [f"{end:,.3g}" if isinstance(end, float) else f"{end:,}" for end in (min(values), max(values))]
    return " to ".join(dict.fromkeys(ends))
