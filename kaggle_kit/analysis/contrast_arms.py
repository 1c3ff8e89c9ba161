"""Which finished runs answer a question of two arms: ablations, MIMIC exclusion, S5, out of distribution.

    for comparison in COMPARISONS["ablation"](find_runs(Path("runs"))):
        comparison.title, comparison.arms["a3"][0].id, comparison.pairs[0].first

Runs belong together by model, profile, tasks and what the question asks about; whether they may be compared
is for `comparability` to say. Every declared pair is there, whether its runs are or not.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kaggle_kit.analysis.comparability import ARCHITECTURE
from kaggle_kit.analysis.verdict_inputs import Entry
from kaggle_kit.core.artifacts import RunFolder, find_runs

LEAVE_TARGET_OUT = "leave_target_out"  # the arm of the exclusion without the evaluated task
ARM_NAME = ("arm", "target")  # of the exclusion's runs
OUTSIDE = "ood"  # the split of figures out of distribution


@dataclass(frozen=True)
class Pair:
    """Two arms by name, and the tasks on which they are compared: first minus second."""

    first: str
    second: str
    tasks: Sequence[str]


@dataclass(frozen=True)
class Comparison:
    """The arms of one question and its declared pairs. `outside`: run id -> figures out of distribution."""

    question: str
    title: str
    arms: Mapping[str, Sequence[Entry]]
    pairs: Sequence[Pair]
    outside: Mapping[str, Entry] = field(default_factory=dict)

    @property
    def entries(self) -> list[Entry]:
        """All runs of the comparison, arm by arm."""
        return [entry for runs in self.arms.values() for entry in runs]


def ablations(runs: Iterable[RunFolder]) -> list[Comparison]:
    """Compare each level with the reference: the last of A1–A4, or the first level of another factor."""
    comparisons = []
    for names, entries in _grouped(runs, lambda entry: _experiment(entry, ("factor", "level"))).items():
        declared, tasks = entries[0].config["experiment"], entries[0]["tasks"]
        levels = [str(level) for level in declared["levels"]]
        reference = levels[-1 if declared["factor"] == ARCHITECTURE else 0]
        arms = _by_arm(entries, lambda entry: str(entry.config["experiment"]["level"]))
        pairs = [Pair(level, reference, tasks) for level in levels if level != reference]
        comparisons.append(Comparison("ablation", names, arms, pairs))
    return comparisons


def exclusions(runs: Iterable[RunFolder]) -> list[Comparison]:
    """Split full minus excluded in two: full minus the arm without the task itself, and that minus excluded.

    The first part is what a task's own data give, which `full` alone has read twice; the second is what the
    other notes of its kind give.
    """
    comparisons = []
    for names, entries in _grouped(runs, lambda entry: _experiment(entry, ("arm", "mimic"))).items():
        declared = entries[0].config["experiment"]
        (full, *others), mimic = declared["arms"], declared["mimic"]
        pairs = [Pair(full, other, mimic) for other in others if other != LEAVE_TARGET_OUT]
        for task in mimic if LEAVE_TARGET_OUT in others else ():
            without = f"{LEAVE_TARGET_OUT} {task}"
            pairs += [Pair(full, without, [task]), Pair(without, others[0], [task])]
        arms = _by_arm(entries, lambda e: " ".join(filter(None, map(e.config["experiment"].get, ARM_NAME))))
        comparisons.append(Comparison("mimic_exclusion", names, arms, pairs))
    return comparisons


def quantisations(runs: Iterable[RunFolder]) -> list[Comparison]:
    """Compare S5's runs with those of the strategy that it chose, whose base is not quantised."""
    runs, comparisons = list(runs), []
    groups = _grouped(runs, lambda entry: (entry.manifest.get("choice") or {}).get("of"))
    for names, entries in groups.items():
        first, of = entries[0], entries[0]["choice"]["of"]
        run_ids = first.config["experiment"].get("candidates")
        like = [Entry.of(run) for run in runs if run.facts["strategy"] == of and run.metrics()]
        same = [e for e in like if _common(e) == _common(first) and "twin" not in e.manifest]
        counterparts = [entry for entry in same if not run_ids or entry.id in run_ids]
        arms = {first["strategy"]: entries} | _by_arm(counterparts, lambda entry: entry["strategy"])
        comparisons.append(Comparison("s5", names, arms, [Pair(first["strategy"], of, first["tasks"])]))
    return comparisons


def out_of_distribution(runs: Iterable[RunFolder]) -> list[Comparison]:
    """Compare a multi-task strategy with its single-task runs, both scored on one corpus by pages `ood`."""
    pages: dict[tuple[str, ...], dict[str, tuple[Entry, Entry]]] = {}
    finished = [(run.manifest()["finished"], run) for run in runs if run.facts["page"] == "ood"]
    for _, page in sorted(finished, key=lambda pair: pair[0]):
        (task,), held_out = page.facts["tasks"], page.manifest()["held_out"]
        there = {run.run_id: run for run in find_runs(page.path.parent)}
        scored = {facts["run_id"]: facts for facts in page.manifest()["arms"] if facts["run_id"] in there}
        inside = {name: Entry.of(there[name]) for name in scored}
        for strategy in sorted({of["strategy"] for of in scored.values() if len(of["tasks"]) > 1}):
            multi = [name for name, facts in scored.items() if facts["strategy"] == strategy]
            key = (task, strategy, held_out["corpus"], held_out["split"], *_common(page.facts)[:2])
            for name, facts in scored.items():
                of = inside[name].manifest.get("twin", {}).get("of")
                if name in multi or (len(facts["tasks"]) == 1 and of in (None, *multi)):
                    both = (inside[name], _outside(page, inside[name], facts, task))
                    pages.setdefault(key, {})[name] = both
    comparisons = []
    for (task, strategy, corpus, split, *names), figures in pages.items():
        entries = [trained for trained, _ in figures.values()]
        arms = _by_arm(entries, lambda e: "multi-task" if len(e["tasks"]) > 1 else "single-task")
        title = ", ".join((f"{strategy} on {task}, held out {corpus} {split}", *names))
        outside = {name: entry for name, (_, entry) in figures.items()}
        pairs = [Pair("multi-task", "single-task", [task])]
        comparisons.append(Comparison("ood", title, arms, pairs, outside))
    return comparisons


COMPARISONS: dict[str, Callable[[Iterable[RunFolder]], list[Comparison]]] = {
    "ablation": ablations,
    "mimic_exclusion": exclusions,
    "s5": quantisations,
    "ood": out_of_distribution,
}


def _grouped(runs: Iterable[RunFolder], title_of: Callable[[Entry], str | None]) -> dict[str, list[Entry]]:
    """Return title -> the runs of one question, model, profile and set of tasks."""
    groups: dict[str, list[Entry]] = {}
    for run in runs:
        entry = Entry.of(run)
        if subject := title_of(entry):
            groups.setdefault(", ".join((subject, *_common(entry))), []).append(entry)
    return groups


def _experiment(entry: Entry, keys: Collection[str]) -> str | None:
    """Name the experiment that declares `keys`, and the strategy that it varies; None for any other run."""
    declared = entry.config["experiment"]
    if not set(keys) <= declared.keys() or "twin" in entry.manifest or not entry.run.metrics():
        return None
    of = declared.get("reference")
    return f"{declared['name']} of {of}" if of else declared["name"]


def _common(facts: Entry | Mapping[str, Any]) -> tuple[str, str, str]:
    return facts["model"], facts["profile"], "+".join(sorted(facts["tasks"]))


def _by_arm(entries: Iterable[Entry], name: Callable[[Entry], str]) -> dict[str, list[Entry]]:
    """Return name of an arm -> its runs in the order of their seeds."""
    arms: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: entry.seed):
        arms.setdefault(name(entry), []).append(entry)
    return arms


def _outside(page: RunFolder, inside: Entry, facts: Mapping[str, Any], task: str) -> Entry:
    """Return the page's scores of a run, as a run whose primary metric is that of the held-out corpus."""
    entry = inside.config["tasks"][task] | {"primary_metric": facts["metrics"][1]}
    folder = RunFolder(page.path / "arms" / inside.id)
    return Entry(folder, inside.manifest, {**inside.config, "tasks": {task: entry}})
