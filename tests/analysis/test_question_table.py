"""The table of comparable runs is kept: each question refuses exactly what its column holds fixed."""

from __future__ import annotations

import copy
import json

import pytest

from kaggle_kit.analysis.comparability import QUESTIONS, RULES, assert_comparable, rule_of
from kaggle_kit.analysis.verdict_inputs import Entry
from kaggle_kit.core.artifacts import Metric, RunFolder
from kaggle_kit.core.errors import ConfigError, IncomparableRuns

TASK, OTHER = "semeval2014t7", "semeval2017t3"
MANIFEST = {
    "page": "s2_shared",
    "model": "llama3b",
    "profile": "t4",
    "paper": True,
    "device": "cuda",
    "strategy": "s2_shared",
    "tasks": [TASK, OTHER],
    "flags": {"smoke": False, "practice": False, "restricted": True},
    "selection": {"rule": "last", "split": None, "metric": None},
    "tuning": {"trials": 0, "split": None, "study": None},
    "data_hashes": {TASK: "notes", OTHER: "questions"},
    "left_out": {TASK: [], OTHER: []},
    "decisions": {"dtype": ["float16", "GPU"]},
    "totals": {"tokens": {TASK: 600, OTHER: 400}, "computed_tokens": {TASK: 500, OTHER: 300}}
    | {"trainable_parameters": 2_000},
    "optimiser_steps": 40,
    "steps_sha256": ["first phase", "last phase"],
    "active_parameters": {TASK: 1_000, OTHER: 1_000},
}
CONFIG = {
    "model": {"name": "llama3b"},
    "profile": {"name": "t4"},
    "practice": {"noise": 0.0},
    "tasks": {name: {"primary_metric": "f1", "scorer": "official"} for name in (TASK, OTHER)},
    "training": {"weight_decay": 0.0, "learning_rate": 1e-4},
    "strategy": {"name": "s2_shared", "kind": "shared"},
    "experiment": {"name": "token_controlled", "factor": "architecture", "tuning": {"study": None}},
}
BELOW = {  # row of the table -> the field that stands for it
    "flags": "flags.smoke",
    "data_hashes": f"data_hashes.{TASK}",
    "left_out": f"left_out.{TASK}",
    "selection": "selection.metric",
    "tuning": "tuning.trials",
    "active_parameters": f"active_parameters.{TASK}",
    "config.model": "config.model.revision",
    "config.profile": "config.profile.max_dev_samples",
    "config.practice": "config.practice.noise",
    "config.tasks": f"config.tasks.{TASK}.segments",
    "config.training": "config.training.weight_decay",
    "config.strategy": "config.strategy.kind",
    "config.experiment": "config.experiment.margin",
}
VALUES = {"tasks": [TASK], f"left_out.{TASK}": ["note"], f"active_parameters.{TASK}": 1_060}
VALUES |= {"totals.trainable_parameters": 2_120, "tuning.trials": 20}


class Arms:
    """Two arms of two seeds, equal in all but the seed. `alter` changes one field of the second arm."""

    def __init__(self, folder, **experiment) -> None:
        metric = Metric("f1", 0.5, "fraction", "test", 50, "official", TASK)
        RunFolder(folder).write_metrics([metric])
        self.arms = {
            arm: [
                Entry(
                    RunFolder(folder),
                    copy.deepcopy(MANIFEST) | {"run_id": f"{arm}-{seed}", "seed": seed},
                    copy.deepcopy(CONFIG) | {"seed": seed},
                )
                for seed in (1, 2)
            ]
            for arm in ("one", "other")
        }
        for entry in self.entries():
            entry.config["experiment"] |= experiment

    def entries(self):
        return [entry for runs in self.arms.values() for entry in runs]

    def alter(self, field, value, seeds=(1, 2)) -> None:
        for entry in (entry for entry in self.arms["other"] if entry.seed in seeds):
            node = entry.config if field.startswith("config.") else entry.manifest
            *path, last = field.removeprefix("config.").split(".")
            for key in path:
                node = node.setdefault(key, {})
            node[last] = value

    def refused(self, question) -> str | None:
        """The field by which the question refuses the arms; None where it takes them."""
        try:
            assert_comparable(question, self.arms, [TASK], "test")
        except IncomparableRuns as refusal:
            return refusal.field
        return None


def altered(folder, row, seeds):
    """Arms of which the second differs in a field of a row, and the field's name."""
    experiment = {"match": "computed"} if "computed" in row else {}
    experiment |= {"parity": "total"} if row == "totals.trainable_parameters" else {}
    arms, field = Arms(folder, **experiment), BELOW.get(row, row)
    if row.startswith("totals.") and "tokens" in row:
        where = row.removesuffix(".*")
        tokens = MANIFEST["totals"][where.removeprefix("totals.")]
        if row.endswith("*"):  # the same sum, other tasks
            field = f"{where}.{TASK}"
            arms.alter(where, {TASK: tokens[OTHER], OTHER: tokens[TASK]}, seeds)
        else:
            arms.alter(where, {TASK: tokens[TASK], OTHER: tokens[OTHER] + 1}, seeds)
        return arms, field
    if row == "decisions.dtype":
        arms.alter(row, ["float32", "asked for"], seeds)
    elif row == "steps_sha256":
        arms.alter(row, ["another first phase", "last phase"], seeds)
    elif row == "steps_sha256.last":
        arms.alter("steps_sha256", ["first phase", "another last phase"], seeds)
    else:
        arms.alter(field, VALUES.get(field, "another"), seeds)
    return arms, field


ROWS = [row for row in RULES if row != "metrics"]  # which are no field of manifest or configuration


@pytest.mark.parametrize("question", QUESTIONS)
def test_equal_arms_are_taken(tmp_path, question):
    assert Arms(tmp_path).refused(question) is None


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("row", ROWS)
def test_an_arm_that_differs_is_refused_by_what_the_question_holds_fixed_and_taken_else(
    tmp_path, question, row
):
    arms, field = altered(tmp_path, row, seeds=(1, 2))
    rule = RULES[row][question]
    may_differ = rule in ("-", "arm") or (rule == "level" and question == "ablation")
    refused = arms.refused(question)
    if row in ("totals.tokens", "totals.computed_tokens") and rule == "-":
        assert refused is None or refused.startswith(f"{row}.")  # by the tokens of a task
    elif row == "steps_sha256.last" and not may_differ:
        assert refused in ("steps_sha256", "steps_sha256.last")
    else:
        assert refused == (None if may_differ else field)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("row", [row for row in ROWS if set(RULES[row].values()) & {"arm", "level", "tuned"}])
def test_within_an_arm_nothing_differs_but_what_may_differ_anywhere(tmp_path, question, row):
    arms, field = altered(tmp_path, row, seeds=(2,))
    assert arms.refused(question) == (None if RULES[row][question] == "-" else field)


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_most_lenient_definition_is_gone(tmp_path, question):
    """Seed 1 against 7, CUDA against CPU, 20 against 999,999 tokens: one page accepted all of them."""
    lenient = Arms(tmp_path)
    lenient.alter("seed", 7, seeds=(1,))
    assert lenient.refused(question) == "seed"
    lenient = Arms(tmp_path)
    lenient.alter("device", "cpu")
    assert lenient.refused(question) == "device"
    lenient = Arms(tmp_path)
    for entry in lenient.entries():
        entry.manifest["totals"]["tokens"] = {TASK: 20, OTHER: 0}
    lenient.alter("totals.tokens", {TASK: 999_999, OTHER: 0})
    assert lenient.refused(question).startswith("totals.tokens")


@pytest.mark.parametrize("question", QUESTIONS)
def test_another_number_of_items_is_refused_by_every_question(tmp_path, question):
    arms = Arms(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    (tmp_path / "elsewhere" / "metrics.json").write_text(json.dumps([metrics[0] | {"n": 51}]))
    first, last = arms.arms["other"]
    arms.arms["other"] = [first, Entry(RunFolder(tmp_path / "elsewhere"), last.manifest, last.config)]
    assert arms.refused(question) == "metrics.n"


@pytest.mark.parametrize("trials", [0, 20])
def test_searches_of_as_many_trials_free_the_settings_between_arms_and_never_within(tmp_path, trials):
    for seeds, refused in (((1, 2), trials == 0), ((2,), True)):
        arms = Arms(tmp_path)
        for entry in arms.entries():
            entry.manifest["tuning"] = {"trials": trials, "split": "dev", "study": None}
        arms.alter("config.training.learning_rate", 1e-5, seeds)
        assert (arms.refused("total") is not None) == refused


def test_an_ablation_of_one_factor_frees_that_key_alone(tmp_path):
    for key, refused in (
        ("fusion", None),
        ("pcgrad", "config.strategy.pcgrad"),
        ("rank", "config.strategy.rank"),
    ):
        arms = Arms(tmp_path, factor="fusion")
        arms.alter(f"config.strategy.{key}", "another")
        assert arms.refused("ablation") == refused


@pytest.mark.parametrize("field", ["optimiser_steps", "steps_sha256"])
def test_runs_that_do_not_record_a_field_are_told_to_run_again_where_it_matters(tmp_path, field):
    arms = Arms(tmp_path)
    for entry in arms.entries():
        del entry.manifest[field]
    with pytest.raises(IncomparableRuns, match=f"^{field}: one-1 does not record it; run its page again"):
        assert_comparable("ablation", arms.arms, [TASK], "test")
    assert arms.refused("share") is None


@pytest.mark.parametrize(
    ("field", "facts"),
    [
        ("selection.split", {"selection": {"rule": "best", "split": "test", "metric": "f1"}}),
        ("selection.rule", {"selection": {"rule": "luck", "split": None, "metric": None}}),
        ("tuning.split", {"tuning": {"trials": 9, "split": "test", "study": None}}),
        ("choice.split", {"choice": {"of": "s3a_flat", "split": "test"}}),
    ],
)
@pytest.mark.parametrize("question", QUESTIONS)
def test_what_was_chosen_on_the_reported_split_is_refused_by_every_question(tmp_path, question, field, facts):
    arms = Arms(tmp_path)
    for entry in arms.entries():
        entry.manifest.update(facts)
    assert arms.refused(question) == field


def test_a_repeated_seed_is_no_further_seed_and_a_lost_one_is_not_missing(tmp_path):
    arms = Arms(tmp_path)
    arms.alter("seed", 1, seeds=(2,))
    assert arms.refused("ablation") == "seed"
    arms = Arms(tmp_path)
    del arms.arms["other"][1]
    assert arms.refused("ablation") == "seed"
    assert_comparable("ablation", arms.arms, [TASK], "test", lost={2})


def test_every_field_that_may_differ_somewhere_says_why():
    from kaggle_kit.analysis.comparability import TABLE

    for line in TABLE.strip().splitlines()[1:]:
        cells, _, reason = line.partition("|")
        if set(cells.split()[1:]) != {"="}:
            assert len(reason.split()) >= 2, line


def test_an_unknown_question_and_a_field_without_a_row_are_refused():
    with pytest.raises(ConfigError, match="allowed: total, share, placebo, ood"):
        rule_of("rq9", "model")
    with pytest.raises(IncomparableRuns, match="no row of the table"):
        rule_of("ablation", "versions.torch")
