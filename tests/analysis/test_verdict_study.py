"""The verdict on a study: one primary comparison, everything else one family, nothing lost on the way."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import norm
from statsmodels.stats.multitest import multipletests
from typer.testing import CliRunner

from kaggle_kit.analysis.verdict import no_verdict
from kaggle_kit.analysis.verdict_study import Family, study_in_words, study_table, study_verdict
from kaggle_kit.cli.app import app
from kaggle_kit.core.errors import ConfigError, IncomparableRuns
from kaggle_kit.study.graph import Study
from kaggle_kit.study.spec import load_selection

RULE = {
    "alpha": 0.05,
    "test": "welch",
    "estimand": "mean",
    "seeds": [1, 2, 3],
    "looks": [],
    "margins": {"a": 0.01, "b": 0.01},
    "level": 0.05,
}
NAMES = ("s2-x", "s3-x", "s2-y")
FAMILY = Family("toy", NAMES, "s2-x", ("a", "b"))


def member(p, difference=1.0, **others):
    p_values = dict.fromkeys(("total", "best_development", "share"), p) | others
    found = {
        name: {"difference": difference, "p_value": value, "equivalence_p": 1.0}
        for name, value in p_values.items()
    }
    alone = "genuine transfer" if max(p_values.values()) <= 0.05 and difference > 0 else "undecided"
    return {"contrasts": found, "verdict": alone, "difference": difference}


def document(overall=0.5, a=0.5, b=0.5, **more):
    tasks = {"a": member(a), "b": member(b)}
    return {"tasks": tasks, "overall": member(overall), "rule": RULE, "interim": ""} | more


def test_the_primary_comparison_is_tested_alone_and_all_else_is_one_family():
    p = {"s2-x": (0.04, 0.001, 0.9), "s3-x": (0.003, 0.02, 0.5), "s2-y": (0.04, 0.04, 0.04)}
    found = study_verdict({name: document(*values) for name, values in p.items()}, FAMILY)
    assert (found["verdict"], found["comparisons"]["s2-x"]["all tasks"]["p_holm"]) == (
        "genuine transfer",
        0.04,
    )
    others = [p["s2-x"][1:], p["s3-x"], p["s2-y"]]
    expected = multipletests(np.concatenate(others), method="holm")[1]
    parts = [(name, part) for name in NAMES for part in ("all tasks", "a", "b")][1:]
    holm = [found["comparisons"][name][part]["transfer_p_holm"] for name, part in parts]
    assert holm == pytest.approx(expected) and found["rule"]["secondary_family"] == 8
    said = {part for part in parts if found["comparisons"][part[0]][part[1]]["verdict"] != "undecided"}
    assert said == {("s2-x", "a"), ("s3-x", "all tasks")}


def test_what_stands_alone_and_not_in_the_study_is_counted_in_words():
    p = {"s2-x": (0.04, 0.001, 0.9), "s3-x": (0.003, 0.02, 0.5), "s2-y": (0.04, 0.04, 0.04)}
    words = list(study_in_words(study_verdict({n: document(*v) for n, v in p.items()}, FAMILY)))
    assert words[0] == "primary comparison, s2-x, all tasks: genuine transfer."
    assert words[-1].startswith("4 verdict(s) that stand alone do not stand in the study")


def test_a_control_that_is_not_beaten_in_one_comparison_counts_in_the_study_too():
    primary = document()
    primary["overall"] = member(0.001, share=0.3)
    found = study_verdict({"s2-x": primary}, FAMILY)["comparisons"]["s2-x"]["all tasks"]
    assert (found["verdict"], found["specification"], found["failed"]) == (
        "undecided",
        "genuine transfer",
        ["share"],
    )


def test_comparisons_that_are_not_there_yet_count_in_the_family_and_make_it_interim():
    one = study_verdict({"s2-x": document(a=0.006)}, FAMILY)
    assert set(one["interim"]) == {"s3-x", "s2-y"}
    assert one["comparisons"]["s2-x"]["a"]["transfer_p_holm"] == pytest.approx(8 * 0.006)
    assert next(study_in_words(one)).startswith("INTERIM: s3-x")
    refused = study_verdict({"s2-x": document(), "s3-x": no_verdict("no baseline")}, FAMILY)
    assert refused["interim"]["s3-x"] == "no baseline"


def test_the_table_has_a_row_for_every_declared_comparison_and_task():
    table = study_table(study_verdict({"s2-x": document(0.01)}, FAMILY))
    assert len(table) == 9 and list(table["family"]).count("primary") == 1
    assert table.iloc[0]["verdict in the study"] == "genuine transfer" and table["interim"].all()


@pytest.mark.parametrize(("key", "value"), [("alpha", 0.01), ("looks", [2, 3]), ("estimand", "trimmed")])
def test_verdicts_by_different_rules_are_no_study(key, value):
    with pytest.raises(IncomparableRuns, match=f"rule.{key}"):
        study_verdict({"s2-x": document(), "s3-x": document(rule=RULE | {key: value})}, FAMILY)


def test_comparisons_of_one_study_may_have_seeds_of_their_own():
    found = study_verdict({"s2-x": document(0.01), "s3-x": document(rule=RULE | {"seeds": [1, 2]})}, FAMILY)
    assert found["rule"]["seeds"] == {"s2-x": [1, 2, 3], "s3-x": [1, 2]}
    assert found["verdict"] == "genuine transfer"


def test_a_comparison_that_was_not_declared_is_refused():
    with pytest.raises(ConfigError, match="'s9-x' is not one of toy"):
        study_verdict({"s9-x": document()}, FAMILY)


def test_without_any_difference_a_study_of_24_comparisons_seldom_says_genuine():
    rng = np.random.default_rng(0)
    names = [f"s-{n}" for n in range(24)]
    family = Family("large", names, "s-0", ("a", "b"))
    studies, together, alone = 400, 0, 0
    for _ in range(studies):
        documents = {}
        for name in names:
            z = rng.normal(size=3)
            parts = [member(2 * norm.sf(abs(value)), np.sign(value)) for value in z]
            documents[name] = document() | {"overall": parts[0], "tasks": {"a": parts[1], "b": parts[2]}}
        found = study_verdict(documents, family)["comparisons"].values()
        said = [each["verdict"] for parts in found for each in parts.values()]
        alone += any(each["alone"] == "genuine transfer" for parts in found for each in parts.values())
        together += "genuine transfer" in said
    assert together / studies <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / studies)
    assert alone / studies >= 0.5  # what the uncorrected verdicts of such a study would say


def test_the_full_study_declares_its_primary_comparison():
    selection = load_selection("full")
    family = Study(selection).family()
    assert family.primary in family.comparisons and len(family.comparisons) > 1
    assert set(family.comparisons) == set(Study(selection).verdicts())


@pytest.mark.parametrize(
    ("study", "changes", "message"),
    [
        ("full", ["primary=null"], "4 comparisons and none of them is primary"),
        ("pilot", [], "declares no verdict"),
    ],
)
def test_a_study_without_verdict_or_primary_comparison_is_refused(study, changes, message):
    with pytest.raises(ConfigError, match=message):
        Study(load_selection(study, changes)).family()


@pytest.mark.parametrize("names", [("tiny", "s2_shared"), ("llama3b", "s1_single")])
def test_a_primary_comparison_is_one_of_the_selected(names):
    model, strategy = names
    with pytest.raises(ConfigError, match="primary"):
        load_selection("full", [f"primary.model={model}", f"primary.strategy={strategy}"])


def test_the_command_refuses_a_study_without_runs(tmp_path):
    out = tmp_path / "study.json"
    done = CliRunner().invoke(
        app, ["verdict", "--study", "rq5_practice", "--runs", str(tmp_path), "--out", str(out)]
    )
    assert done.exit_code == 2 and not out.exists()
    done = CliRunner().invoke(app, ["verdict", "--study", "full", "--multi-task", "s2_shared"])
    assert done.exit_code == 2


def test_the_command_judges_the_runs_of_a_study(tmp_path, monkeypatch):
    names = list(Study(load_selection("rq5_practice")).verdicts())
    found = document(0.01) | {"tasks": {}}
    found["tasks"] = {"semeval2014t7": member(0.5), "semeval2015t14": member(0.001)}
    monkeypatch.setattr("kaggle_kit.analysis.verdict.verdict_or_refusal", lambda runs, **chosen: found)
    id = Study(load_selection("rq5_practice")).verdicts()[names[0]]["runs"][0]
    monkeypatch.setattr("kaggle_kit.core.artifacts.find_runs", lambda _: [Run(id)])
    out = tmp_path / "study.json"
    done = CliRunner().invoke(app, ["verdict", "--study", "rq5_practice", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "primary comparison, s2_shared-tiny, all tasks: genuine transfer" in done.stdout
    assert json.loads(out.read_text())["primary"] == "s2_shared-tiny"


class Run:
    def __init__(self, run_id):
        self.run_id = run_id
