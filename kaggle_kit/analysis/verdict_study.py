"""The verdict on a whole study: many models and strategies, one primary comparison, one error rate.

    document = study_verdict({"s3b_hierarchical-llama3b": verdict(...), ...}, declared)
    for sentence in study_in_words(document): print(sentence)

Every verdict keeps its own error at alpha, so among many of them a false one is likely. Here the rule of
`verdict_rule` is applied again to the study's declared families:

- the primary comparison, declared before the runs: its verdict over all tasks is one test, at the full level;
- everything else, all other verdicts over all tasks and those on every task of every comparison, is one
  family under Holm, at the same level.

A false *genuine transfer* has a chance of at most half the level in either, and of at most the level in the
study. A declared comparison that is not there yet counts in its family with p = 1.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from kaggle_kit.analysis.verdict_rule import Contrast, Control, Verdict, decide
from kaggle_kit.analysis.verdict_words import CONTROLS
from kaggle_kit.core.errors import ConfigError, IncomparableRuns

ALL_TASKS = "all tasks"
NOTHING = {"difference": 0.0, "p_value": 1.0, "equivalence_p": 1.0}
ABSENT = {"contrasts": {Control.TOTAL: NOTHING}, "verdict": None, "difference": None}
SAME_RULE = ("alpha", "test", "estimand", "looks", "margins")  # each comparison declares seeds of its own


@dataclass(frozen=True, slots=True)
class Family:
    """A study as declared: its comparisons by name, the primary one, and the tasks of all of them."""

    study: str
    comparisons: Sequence[str]
    primary: str
    tasks: Sequence[str]


def study_verdict(documents: Mapping[str, Mapping[str, Any]], declared: Family) -> dict[str, Any]:
    """Return the study's document, from the verdict documents of its comparisons by name.

    Raises ConfigError for a primary comparison or a document that was not declared, and IncomparableRuns
    where the documents were decided by different rules.
    """
    for name in (declared.primary, *documents):
        if name not in declared.comparisons:
            known = ", ".join(declared.comparisons)
            raise ConfigError(f"comparison {name!r} is not one of {declared.study}; declared: {known}")
    present = {name: document for name, document in documents.items() if document["tasks"]}
    if not present:
        why = "; ".join(f"{name}: {document['reason']}" for name, document in documents.items())
        raise ConfigError(f"nothing of study {declared.study} can be judged yet. {why or 'No run is there'}")
    rule = _one_rule(present)
    parts = (ALL_TASKS, *declared.tasks)
    names = declared.comparisons
    members = {(name, part): _member(present.get(name), part) for name in names for part in parts}
    contrasts = {}
    for key, member in members.items():
        contrasts[key] = {control: Contrast.of(one) for control, one in member["contrasts"].items()}
    primary = (declared.primary, ALL_TASKS)
    decisions = decide({primary: contrasts.pop(primary)}, rule["level"]) | decide(contrasts, rule["level"])
    waiting = [name for name in names if name not in present]
    interim = {name: document["interim"] for name, document in present.items() if document["interim"]}
    return {
        "study": declared.study,
        "primary": declared.primary,
        "verdict": decisions[primary].verdict,
        "rule": {
            **{key: rule[key] for key in (*SAME_RULE, "level")},
            "seeds": {name: document["rule"]["seeds"] for name, document in present.items()},
            "secondary_family": len(contrasts),
        },
        "interim": interim | {name: documents.get(name, {}).get("reason", "no run yet") for name in waiting},
        "comparisons": {
            name: {part: asdict(decisions[name, part]) | _alone(members[name, part]) for part in parts}
            for name in names
        },
    }


def study_in_words(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the primary comparison, every other claim that stands, and the number of those that do not."""
    for name, why in document["interim"].items():
        yield f"INTERIM: {name}: {why}."
    mark = " (interim)" if document["interim"] else ""
    size, lost = document["rule"]["secondary_family"], 0
    primary = document["comparisons"][document["primary"]][ALL_TASKS]
    why = ""
    if (specified := primary["specification"]) != primary["verdict"]:
        against = ", ".join(CONTROLS[control] for control in (*primary["failed"], *primary["missing"]))
        why = f" (by the specification's rule {specified}; not shown to beat {against})"
    yield f"primary comparison, {document['primary']}, all tasks: {primary['verdict']}{mark}{why}."
    for name, parts in document["comparisons"].items():
        for part, member in parts.items():
            if (name, part) != (document["primary"], ALL_TASKS):
                lost += member["alone"] not in (member["verdict"], None)
                if member["verdict"] != Verdict.UNDECIDED:
                    yield f"{name}, {part}: {member['verdict']}{mark}, corrected over {size} secondary tests."
    stand = "verdict(s) that stand alone do not stand in the study"
    yield f"{lost} {stand}: they were one of {size} secondary tests."


def study_table(document: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row per comparison and task, and one over all tasks: the study's verdict beside its own."""
    primary = (document["primary"], ALL_TASKS)
    rows = [
        {
            "comparison": name,
            "task": part,
            "family": "primary" if (name, part) == primary else "secondary",
            "verdict in the study": member["verdict"],
            "by itself": member["alone"] or "not there yet",
            "difference": member["difference"],
            "p, all controls": member["transfer_p_holm"],
            "interim": bool(document["interim"]),
        }
        for name, parts in document["comparisons"].items()
        for part, member in parts.items()
    ]
    return pd.DataFrame(rows)


def _one_rule(documents: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    (first, rule), *rest = ((name, document["rule"]) for name, document in documents.items())
    for name, other in rest:
        for key in SAME_RULE:
            if other[key] != rule[key]:
                differ = f"{rule[key]} in {first} but {other[key]} in {name}"
                then = "a study is decided by one rule: train again the runs that declare another"
                raise IncomparableRuns(f"rule.{key}", f"{differ}; {then}")
    return rule


def _member(document: Mapping[str, Any] | None, part: str) -> Mapping[str, Any]:
    """Return a task's part of a comparison's document, or that of all tasks; ABSENT where there is none."""
    parts = (document["tasks"] | {ALL_TASKS: document["overall"]}) if document else {}
    return parts.get(part, ABSENT)


def _alone(member: Mapping[str, Any]) -> dict[str, Any]:
    return {"alone": member["verdict"], "difference": member["difference"]}
