"""Which runs may be compared: one table of what each question holds fixed, and one function that refuses.

    assert_comparable("ablation", {"a3": runs, "a4": others}, tasks=["ncbi_disease"], split="test")
    # IncomparableRuns: "config.training.warmup: 0.0 in … but 0.1 in …; the comparison holds it fixed: …"

The arms of a question differ in one thing. Whatever else differs would be taken for its effect, so it is
refused, and so is every choice of seeds, weights or settings by the figures that are then reported.
A field that the table lists for no row is refused too. Library versions and commits are not held fixed: the
verdict lists where they differ.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from kaggle_kit.analysis.verdict_inputs import Entry, chosen_on
from kaggle_kit.core.artifacts import left_out_of
from kaggle_kit.core.errors import IncomparableRuns, unknown
from kaggle_kit.core.records import flat
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

# What every question holds fixed, unless a row of the table below is longer.
ALWAYS_SAME: tuple[str, ...] = ("model", "profile", "paper", "device", "decisions.dtype", "flags")
ALWAYS_SAME += ("data_hashes", "left_out", "metrics", "selection", "tuning", "config.model", "config.profile")
ALWAYS_SAME += ("config.practice", "config.tasks", "config.training", "config.strategy.attention")
ALWAYS_SAME += ("config.strategy.unsloth", "config.experiment")
# The first three are the controls of a multi-task run. The longest row that a field begins with counts.
TABLE = """
field                                   total  share  placebo  ood    mimic_exclusion  ablation  s5     transfer  | why not in every run
page                                    arm    arm    arm      arm    =                =         arm    arm       | a control, S5 and their counterpart have pages of their own
tasks                                   arm    arm    arm      arm    =                =         =      arm       | which tasks the tokens come from is the question
flags.restricted                        -      -      -        -      =                =         =      -         | follows from the tasks
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
config.training.target_tokens           -      -      -        -      =                =         =      -         | makes the control, and is checked against its multi-task run
config.training.max_steps               -      -      -        -      =                =         =      -         | its token target ends a control
config.training.learning_rate           tuned  tuned  =        tuned  =                =         tuned  tuned     | equal searches may find other settings
config.training.warmup                  tuned  tuned  =        tuned  =                =         tuned  tuned     | as above; epochs and batch make tokens and steps, which are equal
config.strategy                         arm    arm    =        arm    =                level     =      arm       | an adapter for one task has no use for several
config.strategy.name                    arm    arm    =        arm    arm              arm       arm    arm       | names the arm
config.strategy.title                   arm    arm    =        arm    =                level     arm    arm       | describes the arm
config.strategy.candidates              -      -      =        -      =                =         arm    -         | S5 names its counterparts
config.strategy.quantization            =      =      =        =      =                =         arm    =         | S5 asks what NF4 costs
config.strategy.pcgrad                  arm    arm    =        arm    =                =         =      arm       | one task has no conflicts, no sampling and no weights
config.strategy.conflict_resolution     arm    arm    =        arm    =                =         =      arm       | as above
config.strategy.gradient_per            arm    arm    =        arm    =                =         =      arm       | as above
config.strategy.sampling                arm    arm    =        arm    =                =         =      arm       | as above
config.strategy.temperature             arm    arm    =        arm    =                =         =      arm       | as above
config.strategy.loss_weighting          arm    arm    =        arm    =                =         =      arm       | as above
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
AGAIN = "train again the runs that differ, or keep them in another folder"

ArmRuns = Mapping[str, Sequence[Entry]]  # name of an arm -> its runs


def _parsed() -> tuple[tuple[str, ...], dict[str, dict[str, str]]]:
    (_, *questions), *rows = (line.partition("|")[0].split() for line in TABLE.strip().splitlines())
    rules = {row: dict(zip(questions, cells, strict=True)) for row, *cells in rows}
    return tuple(questions), {row: dict.fromkeys(questions, SAME) for row in ALWAYS_SAME} | rules


QUESTIONS, RULES = _parsed()


@cache
def rule_of(question: str, field: str) -> str:
    """Return the question's rule for a field: that of the longest row which the field begins with."""
    if question not in QUESTIONS:
        raise unknown("question", question, QUESTIONS)
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
    seeds = {run.seed for runs in arms.values() for run in runs} - set(lost)
    for name, runs in arms.items():
        own = [run.seed for run in runs]
        if twice := [seed for seed in own if own.count(seed) > 1]:
            more = f"{twice[0]} more than once in {name}"
            raise IncomparableRuns("seed", f"{more}; a repeated run is no further seed, move it away")
        if missing := sorted(seeds - set(own)):
            raise IncomparableRuns("seed", f"{missing} missing in {name}, which has {own}; train them")
    assert_fixed(question, arms, tasks, split)


def documents_of(entries: Sequence[Entry], task: str, split: str) -> np.ndarray:
    """Return the counts of each document for each run's primary metric, (runs, documents, columns).

    Raises IncomparableRuns where a run has none or others, they do not make its recorded figure, or what a
    document weighs (its gold items, in an F1 the hits and misses of recall) is not as in the first run. Only
    rows of means, which a prediction adds to, may weigh differently.
    """
    where = f"documents/{task}.{split}.jsonl"
    tables = [document_table(entry.run.read_documents(task, split)) for entry in entries]
    first, (ids, expected) = entries[0].id, tables[0]
    for entry, (own, sums) in zip(entries, tables, strict=True):
        if not own or own != ids:
            there = f"{len(own)} documents in {entry.id} but {len(ids)} in {first}"
            raise IncomparableRuns(where, f"{there}, or not the same ones; evaluate both on one corpus")
        made, recorded = float(figure(sums.sum(axis=0))), entry.primary(task, split).value
        if abs(made - recorded) > ROUNDING:
            says = f"make {made} in {entry.id}, but metrics.json says {recorded}"
            raise IncomparableRuns(where, f"{says}; run its page again")
        if sums.shape != expected.shape:
            mixed = f"counts in {first} or {entry.id}, means in the other"
            raise IncomparableRuns(where, f"{mixed}; {AGAIN}")
        what, columns = ("tp + fn", slice(2, 4)) if sums.shape[1] == F1_COLUMNS else ("weight", slice(1, 2))
        theirs, gold = (counts[:, columns].sum(axis=1) for counts in (expected, sums))
        differing = np.flatnonzero(gold != theirs)
        if differing.size and entry.config["tasks"][task]["scorer"] not in ROWS_OF_BOTH_SIDES:
            at = differing[0]
            found = f"{what} of {ids[at]} is {gold[at]:g} in {entry.id} and {theirs[at]:g} in {first}"
            why = "yet it is the corpus's gold; one was edited, run it again"
            raise IncomparableRuns(where, f"{found}, {why}")
    return np.stack([sums for _, sums in tables])


def configured(question: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return field -> value of a configuration for all that runs of one arm share, whatever their seed."""
    fields = flat({name: value for name, value in config.items() if name != "seed"}, "config")
    return {name: value for name, value in fields.items() if value != {} and rule_of(question, name) != FREE}


def assert_fixed(question: str, arms: ArmRuns, tasks: Sequence[str], split: str) -> None:
    """Refuse a run that differs from the first of all, of its arm or of its seed, as the table has it."""
    placed = [(arm, run) for arm, runs in arms.items() for run in runs]
    shared = sorted(set.intersection(*(set(run["tasks"]) for _, run in placed)))
    for task in tasks:
        values = [_fields(run, task, split, shared) for _, run in placed]
        for field in dict.fromkeys(name for own in values for name in own):  # one that a run lacks is None
            seen: dict[Any, tuple[Entry, Any]] = {}
            for (arm, run), own in zip(placed, values, strict=True):
                value, rule = own.get(field), _rule_for(question, field, run)
                if rule == FREE:
                    continue
                if value == NOT_RECORDED:
                    raise IncomparableRuns(field, f"{run.id} does not record it; run its page again")
                one, expected = seen.setdefault({ARM: arm, SEED: run.seed}.get(rule), (run, value))
                if value == expected:
                    continue
                fixed = "the comparison holds it fixed"
                if rule == NEAR:
                    fixed = f"they may be {MAX_PARAMETER_GAP:.0%} apart"
                    if abs(value - expected) <= MAX_PARAMETER_GAP * expected:
                        continue
                differ = f"{expected!r} in {one.id} but {value!r} in {run.id}"
                raise IncomparableRuns(field, f"{differ}; {fixed}: {REMEDY.get(question, AGAIN)}")


def _rule_for(question: str, field: str, run: Entry) -> str:
    """Return `rule_of`, with TUNED and LEVEL replaced by the rule that they mean for these runs."""
    rule, factor = rule_of(question, field), run.config["experiment"].get("factor")
    if question == "ablation" and field == f"config.strategy.{factor}":
        return ARM
    if rule == LEVEL:
        return ARM if factor == ARCHITECTURE else SAME
    if rule == TUNED:
        return ARM if run["tuning"]["trials"] else SAME
    return rule


def _fields(run: Entry, task: str, split: str, shared: Sequence[str]) -> dict[str, Any]:
    """Return field -> value of all that the table has a row for. `shared`: the tasks of every run."""
    metric, experiment, manifest = run.primary(task, split), run.config["experiment"], run.manifest
    matched = "computed_tokens" if experiment.get("match") == "computed" else "tokens"
    tokens, steps = run["totals"].get(matched), manifest.get("steps_sha256", NOT_RECORDED)
    named = ("page", "model", "profile", "paper", "device", "strategy", "flags", "selection", "tuning")
    fields = flat({name: run[name] for name in named}) | {
        "tasks": sorted(run["tasks"]),
        "decisions.dtype": manifest.get("decisions", {}).get("dtype", [None])[0],
        f"totals.{matched}": NOT_RECORDED if tokens is None else sum(tokens.values()),
    }
    for each in shared:
        fields[f"data_hashes.{each}"] = run["data_hashes"].get(each)
        fields[f"left_out.{each}"] = left_out_of(manifest, each)
        fields[f"totals.{matched}.{each}"] = NOT_RECORDED if tokens is None else tokens.get(each, 0)
    fields["optimiser_steps"] = manifest.get("optimiser_steps", NOT_RECORDED)
    fields |= {"steps_sha256": steps, "steps_sha256.last": steps if steps == NOT_RECORDED else steps[-1]}
    if experiment.get("parity") == "total":
        fields["totals.trainable_parameters"] = run["totals"]["trainable_parameters"]
    else:
        fields[f"active_parameters.{task}"] = run["active_parameters"].get(task, 0)
    configuration = {name: value for name, value in run.config.items() if name != "seed"}
    fields |= flat(configuration | {"tasks": {task: run.config["tasks"][task]}}, "config")
    fields |= {"metrics.scorer": metric.scorer, "metrics.n": metric.n, "metrics.unit": metric.unit}
    return {name: value for name, value in fields.items() if value != {}}


def _assert_unselected(run: Entry, split: str) -> None:
    """Refuse a run of which anything was chosen by the figures that it reports."""
    rule = run["selection"]["rule"]
    if rule not in ("last", "best"):
        raise IncomparableRuns("selection.rule", f"{rule!r} in {run.id}; allowed: last, best")
    what = {
        "selection.split": ("chose its weights", "train with training.selection=last, or report"),
        "tuning.split": ("was tuned", "report"),
        "choice.split": ("chose its strategy", "report"),
    }
    for field, chosen in chosen_on(run).items():
        if chosen == split:
            did, then = what[field]
            on = f"{run.id} {did} on {split!r}, the split that is reported"
            by = "another by profile.report, and judge that one by --split"
            raise IncomparableRuns(field, f"{on}; {then} {by}")
