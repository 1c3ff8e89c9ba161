"""Which runs may be compared: one table of what each question holds fixed, and one function that refuses.

    assert_comparable("ablation", {"a3": runs, "a4": others}, tasks=["ncbi_disease"], split="test")
    # IncomparableRuns: "config.training.warmup: 0.0 in … but 0.1 in …; the comparison holds it fixed: …"

The arms of a question differ in one thing. Whatever else differs would be taken for its effect, so it is
refused, and so is every choice of seeds, weights or settings by the figures that are then reported.
A field that the table lists for no row is refused too. Library versions and commits are not held fixed: the
verdict lists where they differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from kaggle_kit.analysis.verdict_inputs import Entry, chosen_on, flat
from kaggle_kit.core.artifacts import left_out_of
from kaggle_kit.core.errors import ConfigError, IncomparableRuns
from kaggle_kit.evaluation.documents import document_table, figure

MAX_PARAMETER_GAP = 0.05  # relative, of the active trainable parameters
ROUNDING = 1e-9  # between a recorded figure and that of its documents
ROWS_OF_BOTH_SIDES = ("measeval",)  # scorers of means whose weights count predicted rows, too
F1_COLUMNS = 4  # tp, fp, and of recall the hits and misses
NOT_RECORDED = "not recorded"
ARCHITECTURE = "architecture"  # the factor whose levels are whole strategies

SAME = "="  # in every run
ARM = "arm"  # in the runs of one arm: what the arms differ in, or what follows from that
SEED = "seed"  # in the runs of one seed
NEAR = "5%"  # at most MAX_PARAMETER_GAP apart
TUNED = "tuned"  # in every run, or once both arms were tuned by as many trials, in the runs of one arm
LEVEL = "level"  # in every run; in one arm, if the ablation's factor is `architecture`
FREE = "-"  # may differ

# The first three are the controls of a multi-task run. The longest row that a field begins with counts.
TABLE = """
field                                   total  share  placebo  ood    mimic_exclusion  ablation  s5     transfer  | why not in every run
page                                    arm    arm    arm      arm    =                =         arm    arm       | a control, S5 and their counterpart have pages of their own
tasks                                   arm    arm    arm      arm    =                =         =      arm       | which tasks the tokens come from is the question
model                                   =      =      =        =      =                =         =      =
profile                                 =      =      =        =      =                =         =      =
paper                                   =      =      =        =      =                =         =      =
device                                  =      =      =        =      =                =         =      =
decisions.dtype                         =      =      =        =      =                =         =      =
flags                                   =      =      =        =      =                =         =      =
flags.restricted                        -      -      -        -      =                =         =      -         | follows from the tasks
data_hashes                             =      =      =        =      =                =         =      =
left_out                                =      =      =        =      =                =         =      =
metrics                                 =      =      =        =      =                =         =      =
selection                               =      =      =        =      =                =         =      =
tuning                                  =      =      =        =      =                =         =      =
tuning.study                            tuned  tuned  =        tuned  tuned            tuned     -      tuned     | every arm has a search of its own
tuning.target_tokens                    tuned  tuned  =        tuned  =                =         =      tuned     | a baseline is searched at its own tokens
strategy                                arm    arm    =        arm    arm              arm       arm    arm       | names the arm
totals.tokens                           seed   -      seed     seed   seed             seed      seed   seed      | other seeds draw other sequences; a share control has its share
totals.tokens.*                         -      seed   seed     -      -                seed      seed   -         | all tokens of a total control come from one task
totals.computed_tokens                  seed   -      seed     seed   seed             seed      seed   seed      | as totals.tokens, under experiment.match=computed
totals.computed_tokens.*                -      seed   seed     -      -                seed      seed   -         | as totals.tokens
optimiser_steps                         seed   -      seed     seed   -                seed      seed   seed      | a share control's are scaled; arms of the exclusion read other sequences first
steps_sha256                            -      -      -        -      -                seed      seed   -         | which rows are read is the question
steps_sha256.last                       -      -      -        -      seed             seed      seed   -         | the last phase alone is the same in every arm
active_parameters                       5%     5%     5%       5%     =                5%        =      5%        | ranks are whole numbers
totals.trainable_parameters             5%     5%     5%       5%     =                5%        =      5%        | compared under experiment.parity=total
config.model                            =      =      =        =      =                =         =      =
config.profile                          =      =      =        =      =                =         =      =
config.practice                         =      =      =        =      =                =         =      =
config.tasks                            =      =      =        =      =                =         =      =
config.training                         =      =      =        =      =                =         =      =
config.training.target_tokens           -      -      -        -      =                =         =      -         | makes the control, and is checked against its multi-task run
config.training.max_steps               -      -      -        -      =                =         =      -         | its token target ends a control
config.training.learning_rate           tuned  tuned  =        tuned  =                =         tuned  tuned     | equal searches may find other settings
config.training.warmup                  tuned  tuned  =        tuned  =                =         tuned  tuned     | as above; epochs and batch make tokens and steps, which are equal
config.strategy                         arm    arm    =        arm    =                level     =      arm       | an adapter for one task has no use for several
config.strategy.name                    arm    arm    =        arm    arm              arm       arm    arm       | names the arm
config.strategy.title                   arm    arm    =        arm    =                level     arm    arm       | describes the arm
config.strategy.candidates              -      -      =        -      =                =         arm    -         | S5 names its counterparts
config.strategy.attention               =      =      =        =      =                =         =      =
config.strategy.quantization            =      =      =        =      =                =         arm    =         | S5 asks what NF4 costs
config.strategy.unsloth                 =      =      =        =      =                =         =      =
config.strategy.pcgrad                  arm    arm    =        arm    =                =         =      arm       | one task has no conflicts, no sampling and no weights
config.strategy.sampling                arm    arm    =        arm    =                =         =      arm       | as above
config.strategy.temperature             arm    arm    =        arm    =                =         =      arm       | as above
config.strategy.loss_weighting          arm    arm    =        arm    =                =         =      arm       | as above
config.experiment                       =      =      =        =      =                =         =      =
config.experiment.twin                  -      -      -        -      =                =         =      -         | makes the control, and is checked against its multi-task run
config.experiment.twin_config           -      -      -        -      =                =         =      -         | as above
config.experiment.control               arm    arm    arm      arm    =                =         =      arm       | names the arm
config.experiment.placebo               =      =      arm      =      =                =         =      =         | names the arm
config.experiment.scored                =      =      arm      =      =                =         =      =         | names the arm
config.experiment.arm                   =      =      =        =      arm              =         =      =         | names the arm
config.experiment.target                =      =      =        =      arm              =         =      =         | names the arm
config.experiment.level                 =      =      =        =      =                arm       =      =         | names the arm
config.experiment.tuning.study          tuned  tuned  =        tuned  tuned            tuned     -      tuned     | every arm has a search of its own
config.experiment.tuning.target_tokens  tuned  tuned  =        tuned  =                =         =      tuned     | as above
config.experiment.choice                =      =      =        =      =                =         -      =         | what S5 chose
config.experiment.candidates            =      =      =        =      =                =         -      =         | what S5 chose among
"""  # noqa: E501  # one line a field, one column a question
REMEDY = {
    "ood": "name runs that agree by experiment.runs, or train again those that differ",
    "s5": "name those to choose among by 'experiment.candidates=[RUN_ID,…]', or train the others again",
}
TRAIN_AGAIN = "train again the runs that differ, or keep them in another folder"

ArmRuns = Mapping[str, Sequence[Entry]]  # name of an arm -> its runs


def _parsed() -> tuple[tuple[str, ...], dict[str, dict[str, str]]]:
    header, *lines = (line.partition("|")[0].split() for line in TABLE.strip().splitlines())
    return tuple(header[1:]), {row: dict(zip(header[1:], rules, strict=True)) for row, *rules in lines}


QUESTIONS, RULES = _parsed()


@cache
def rule_of(question: str, field: str) -> str:
    """The question's rule for a field: that of the longest row which the field begins with."""
    if question not in QUESTIONS:
        raise ConfigError(f"question is {question!r}; allowed: {', '.join(QUESTIONS)}")
    parts = field.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if row := (RULES.get(f"{name}.*") if length < len(parts) else None) or RULES.get(name):
            return row[question]
    raise IncomparableRuns(field, f"no row of the table of comparable runs says whether {question} fixes it")


def assert_comparable(
    question: str, arms: ArmRuns, tasks: Sequence[str], split: str, lost: Collection[int] = ()
) -> None:
    """Refuse arms that differ in what the question holds fixed, on any of `tasks` as scored on `split`.

    Every arm must have the same seeds, each once, but for those that were `lost`. Raises IncomparableRuns,
    naming the first field, its values and their runs.
    """
    for runs in arms.values():
        for run in runs:
            _assert_unselected(run, split)
    assert_seeds(arms, lost)
    assert_fixed(question, arms, tasks, split)


def assert_seeds(arms: ArmRuns, lost: Collection[int] = ()) -> None:
    """Refuse a repeated seed, and arms that differ in their seeds other than the `lost` ones."""
    wanted = {run.seed for runs in arms.values() for run in runs} - set(lost)
    for name, runs in arms.items():
        found = [run.seed for run in runs]
        if twice := [seed for seed, times in Counter(found).items() if times > 1]:
            raise IncomparableRuns(
                "seed",
                f"{twice[0]} more than once in {name}; a repeated run is no further seed, move it away",
            )
        if missing := sorted(wanted - set(found)):
            raise IncomparableRuns("seed", f"{missing} missing in {name}, which has {found}; train them")


def documents_of(entries: Sequence[Entry], task: str, split: str) -> tuple[list[str], np.ndarray]:
    """Document ids, and what they add to the primary metric: (seeds, documents, columns).

    Raises IncomparableRuns where a run has none or others, they do not make its recorded figure, or hits and
    misses of a document (its gold items, equal in all runs) are not those of the first run.
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
        rows = entry.config["tasks"][task]["scorer"] in ROWS_OF_BOTH_SIDES
        _assert_one_gold(where, (entries[0], tables[0][1]), (entry, sums), () if rows else ids)
    return tables[0][0], np.stack([sums for _, sums in tables])


def _assert_one_gold(
    where: str, first: tuple[Entry, np.ndarray], other: tuple[Entry, np.ndarray], ids: Sequence[str]
) -> None:
    """What a document weighs is the corpus's own, whoever predicted: of an F1, the hits and misses of recall.

    `ids` are the documents; empty for means over rows, which a prediction adds to.
    """
    (one, theirs), (run, mine) = first, other
    if mine.shape != theirs.shape:
        raise IncomparableRuns(where, f"counts in {one.id} or {run.id}, means in the other; {TRAIN_AGAIN}")
    what, columns = ("tp + fn", slice(2, None)) if mine.shape[1] == F1_COLUMNS else ("weight", slice(1, None))
    expected, gold = theirs[:, columns].sum(axis=1), mine[:, columns].sum(axis=1)
    if ids and (differing := np.flatnonzero(gold != expected)).size:
        at = int(differing[0])
        found = f"{what} of {ids[at]} is {gold[at]:g} in {run.id} and {expected[at]:g} in {one.id}"
        raise IncomparableRuns(where, f"{found}, yet it is the corpus's gold; one was edited, run it again")


def configured(question: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Field -> value of a configuration for what the runs of one arm share, whatever their seed."""
    fields = flat({name: value for name, value in config.items() if name != "seed"}, "config")
    return {name: value for name, value in fields.items() if value != {} and rule_of(question, name) != FREE}


def assert_fixed(question: str, arms: ArmRuns, tasks: Sequence[str], split: str) -> None:
    """Refuse a run that differs from the first of all, of its arm or of its seed, as the table has it."""
    for task in tasks:
        _assert_fixed(question, arms, task, split)


def _assert_fixed(question: str, arms: ArmRuns, task: str, split: str) -> None:
    placed = [(arm, run) for arm, runs in arms.items() for run in runs]
    shared = sorted(set.intersection(*(set(run["tasks"]) for _, run in placed)))
    values = [
        {name: value for name, value in _fields(run, task, split, shared) if value != {}} for _, run in placed
    ]
    for field in dict.fromkeys(name for own in values for name in own):  # one that a run lacks is None there
        seen: dict[Any, tuple[Entry, Any]] = {}
        for (arm, run), own in zip(placed, values, strict=True):
            value, rule = own.get(field), _rule_for(question, field, run)
            if rule == FREE:
                continue
            if value == NOT_RECORDED:
                raise IncomparableRuns(field, f"{run.id} does not record it; run its page again")
            first = seen.setdefault({ARM: arm, SEED: run.seed}.get(rule), (run, value))
            if not (_near(value, first[1]) if rule == NEAR else value == first[1]):
                _refuse(question, field, first, (run, value), rule)


def _rule_for(question: str, field: str, run: Entry) -> str:
    """`rule_of`, with the rules that depend on the run settled."""
    rule, factor = rule_of(question, field), run.config["experiment"].get("factor")
    if question == "ablation" and field == f"config.strategy.{factor}":
        return ARM
    if rule == LEVEL:
        return ARM if factor == ARCHITECTURE else SAME
    if rule == TUNED:
        return ARM if run["tuning"]["trials"] else SAME
    return rule


def _fields(run: Entry, task: str, split: str, shared: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Field -> value of all that the table has a row for. `shared`: the tasks of every run."""
    metric, experiment = run.primary(task, split), run.config["experiment"]
    named = ("page", "model", "profile", "paper", "device", "strategy")
    yield from ((name, run[name]) for name in named)
    yield from flat({name: run[name] for name in ("flags", "selection", "tuning")}).items()
    yield "tasks", sorted(run["tasks"])
    yield "decisions.dtype", run.manifest.get("decisions", {}).get("dtype", [None])[0]
    for each in shared:
        yield f"data_hashes.{each}", run["data_hashes"].get(each)
        yield f"left_out.{each}", left_out_of(run.manifest, each)
    matched = "computed_tokens" if experiment.get("match") == "computed" else "tokens"
    tokens = run["totals"].get(matched, NOT_RECORDED)
    yield f"totals.{matched}", tokens if tokens == NOT_RECORDED else sum(tokens.values())
    for each in shared:
        yield f"totals.{matched}.{each}", tokens if tokens == NOT_RECORDED else tokens.get(each, 0)
    yield "optimiser_steps", run.manifest.get("optimiser_steps", NOT_RECORDED)
    rows = run.manifest.get("steps_sha256", NOT_RECORDED)
    yield "steps_sha256", rows
    yield "steps_sha256.last", rows if rows == NOT_RECORDED else rows[-1]
    if experiment.get("parity") == "total":
        yield "totals.trainable_parameters", run["totals"]["trainable_parameters"]
    else:
        yield f"active_parameters.{task}", run["active_parameters"].get(task, 0)
    configuration = {name: value for name, value in run.config.items() if name != "seed"}
    yield from flat(configuration | {"tasks": {task: run.config["tasks"][task]}}, "config").items()
    yield from (("metrics.scorer", metric.scorer), ("metrics.n", metric.n), ("metrics.unit", metric.unit))


def _near(value: float, expected: float) -> bool:
    return abs(value - expected) <= MAX_PARAMETER_GAP * expected


def _refuse(question: str, field: str, first: tuple[Entry, Any], other: tuple[Entry, Any], rule: str) -> None:
    (one, expected), (run, value) = first, other
    fixed = f"they may be {MAX_PARAMETER_GAP:.0%} apart" if rule == NEAR else "the comparison holds it fixed"
    raise IncomparableRuns(
        field,
        f"{expected!r} in {one.id} but {value!r} in {run.id}; {fixed}: {REMEDY.get(question, TRAIN_AGAIN)}",
    )


def _assert_unselected(run: Entry, split: str) -> None:
    """Refuse a run of which anything was chosen by the figures that it reports."""
    selection = run["selection"]
    if selection["rule"] not in ("last", "best"):
        raise IncomparableRuns("selection.rule", f"{selection['rule']!r} in {run.id}; allowed: last, best")
    what = {
        "selection.split": ("chose its weights", "train with training.selection=last, or report"),
        "tuning.split": ("was tuned", "report"),
        "choice.split": ("chose its strategy", "report"),
    }
    for field, chosen in chosen_on(run).items():
        if chosen == split:
            did, then = what[field]
            raise IncomparableRuns(
                field,
                f"{run.id} {did} on {split!r}, the split that is reported; {then} another by "
                "profile.report, and judge that one by --split",
            )
