"""Whatever a comparison holds fixed: altering any one field of any one run is refused, naming the field."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml
from typer.testing import CliRunner

from kaggle_kit.analysis.verdict import verdict
from kaggle_kit.cli.app import app
from kaggle_kit.core.artifacts import find_runs
from kaggle_kit.core.errors import ConfigError, IncomparableRuns, RunFolderError
from tests.analysis.judged_runs import TASKS, altered
from tests.analysis.test_verdict import run_of
from tests.signing import sign

NOTES, RANKING = TASKS
MULTI, CONTROL = "s2_shared", "token_controlled"
MANIFEST = [  # page of the run that is altered, field, its new value, and the field that the refusal names
    (MULTI, "run_id", "another", None),
    (MULTI, "page", "s3a_flat", None),
    (MULTI, "model", "minilm", None),
    (MULTI, "strategy", "s3a_flat", None),
    (MULTI, "profile", "open", None),
    (MULTI, "paper", False, None),
    (MULTI, "tasks", [NOTES], None),
    (MULTI, "seed", 9, None),
    (MULTI, "started", "2020-01-01T00:00:00+00:00", None),
    (MULTI, "config_hash", "0" * 16, None),
    (MULTI, "flags.smoke", True, None),
    (MULTI, "flags.practice", True, None),
    (MULTI, "flags.restricted", False, None),
    (MULTI, "device", "cuda", None),
    (MULTI, "decisions.dtype", ["float16", "asked for"], "decisions.dtype"),
    (MULTI, f"data_hashes.{NOTES}", "other data", None),
    (MULTI, f"totals.tokens.{NOTES}", 6_001, "totals.tokens"),
    (MULTI, "totals.trainable_parameters", 900, None),
    (MULTI, f"active_parameters.{NOTES}", 1_060, None),
    (MULTI, "token_parity_error", 3, None),
    (MULTI, "selection.rule", "best", "selection.rule"),
    (MULTI, "selection", {"rule": "best", "split": "test", "metric": "x"}, "selection.split"),
    (MULTI, "selection.metric", "loss", None),
    (MULTI, "tuning.trials", 20, None),
    (MULTI, "tuning", {"trials": 20, "split": "test", "study": "x"}, "tuning.split"),
    (MULTI, "choice", {"of": "s3a_flat", "split": "test"}, "choice.split"),
    (CONTROL, "seed", 9, None),
    (CONTROL, "model", "minilm", None),
    (CONTROL, "strategy", "s2_shared", None),
    (CONTROL, "profile", "open", None),
    (CONTROL, "tasks", [RANKING], None),
    (CONTROL, "config_hash", "0" * 16, None),
    (CONTROL, "flags.practice", True, None),
    (CONTROL, "device", "cuda", None),
    (CONTROL, f"data_hashes.{NOTES}", "other data", None),
    (CONTROL, f"left_out.{NOTES}", ["note1"], None),
    (CONTROL, f"totals.tokens.{NOTES}", 9_999, "totals.tokens"),
    (CONTROL, "totals.trainable_parameters", 1_100, None),
    (CONTROL, f"active_parameters.{NOTES}", 940, None),
    (CONTROL, "token_parity_error", 1, None),
    (CONTROL, "selection", {"rule": "best", "split": "dev", "metric": "x"}, "selection.rule"),
    (CONTROL, "tuning.trials", 20, None),
    (CONTROL, "twin.of", "no-such-run", None),
    (CONTROL, "twin.of_config", "0" * 16, None),
    (CONTROL, "twin.target_tokens", 9_999, None),
    (CONTROL, "twin.control", "half", None),
]


def refusal(folder) -> IncomparableRuns:
    with pytest.raises(IncomparableRuns) as caught:
        verdict(find_runs(folder))
    assert str(caught.value).startswith(f"{caught.value.field}: ")
    return caught.value


@pytest.mark.parametrize(("page", "field", "value", "named"), MANIFEST, ids=lambda item: str(item)[:40])
@pytest.mark.parametrize("seed", [1, 3])
def test_a_comparison_with_one_manifest_field_altered_is_refused(
    altered_study, page, field, value, named, seed
):
    run = run_of(altered_study, page=page, seed=seed)
    altered(run, field, value)
    assert refusal(altered_study).field == (named or field)


@pytest.mark.parametrize(
    "field", ["selection", "tuning", "active_parameters", "device", "data_hashes", "totals", "flags", "seed"]
)
@pytest.mark.parametrize("page", [MULTI, CONTROL])
def test_a_run_that_does_not_record_a_field_is_refused(altered_study, page, field):
    run = run_of(altered_study, page=page)
    manifest = json.loads(run.manifest_json.read_text())
    del manifest[field]
    sign(run, manifest)
    with pytest.raises((IncomparableRuns, RunFolderError), match=f"{field}.*run (its|the) page again"):
        verdict(find_runs(altered_study))


CONFIG = [
    ("training.warmup", 0.1),
    ("training.learning_rate", 1e-5),
    ("training.effective_batch", 64),
    ("training.patience", 9),
    ("training.quick_every", 7),
    ("model.lora.dropout", 0.5),
    ("practice.transfer", "none"),
    ("profile.max_dev_samples", 5),
    ("strategy.attention", "causal"),
    ("experiment.margin.f1", 0.5),
    ("experiment.alpha", 0.2),
    ("experiment.tuning.trials", 4),
    (f"tasks.{NOTES}.primary_metric", "task_a_relaxed_f1"),
    (f"tasks.{NOTES}.scorer", "brat"),
]


@pytest.mark.parametrize(("field", "value"), CONFIG, ids=lambda item: str(item))
def test_a_control_that_was_configured_otherwise_is_refused(altered_study, field, value):
    configure(run_of(altered_study, page=CONTROL, seed=2), field, value)
    named = {f"tasks.{NOTES}.primary_metric": "split"}.get(field, f"config.{field}")
    assert refusal(altered_study).field == named


def removed(run):
    """As if the run had never begun."""
    for file in (run.manifest_json, run.config_yaml):
        file.unlink()


def configure(run, field, value):
    header, _, body = run.config_yaml.read_text().partition("\n")
    config = yaml.safe_load(body)
    *path, last = field.split(".")
    node = config
    for key in path:
        node = node[key]
    node[last] = value
    run.config_yaml.write_text(f"{header}\n{yaml.safe_dump(config)}")
    sign(run)


def test_a_refusal_says_both_values_and_both_runs(altered_study):
    run = run_of(altered_study, page=CONTROL)
    altered(run, "device", "cuda")
    message = str(refusal(altered_study))
    assert "'cpu'" in message and "'cuda'" in message and run.run_id in message and "s2_shared-" in message


def test_the_command_ends_with_the_refusal_and_writes_nothing(altered_study, tmp_path):
    altered(run_of(altered_study, page=CONTROL), "device", "cuda")
    out = tmp_path / "verdict.json"
    done = CliRunner().invoke(app, ["verdict", "--runs", str(altered_study), "--out", str(out)])
    assert (done.exit_code, out.exists()) == (2, False)
    assert done.stderr.startswith("error: device: 'cpu' in s2_shared-")


def test_equal_tuning_may_find_another_learning_rate_in_either_arm(altered_study):
    for run in find_runs(altered_study):
        altered(run, "tuning", {"trials": 20, "split": "dev", "study": run.facts["page"]})
    for run in find_runs(altered_study):
        if run.facts["page"] == CONTROL:
            configure(run, "training.learning_rate", 1e-5)
    assert verdict(find_runs(altered_study))["tasks"]


def test_equal_tuning_frees_nothing_within_an_arm(altered_study):
    for run in find_runs(altered_study):
        altered(run, "tuning", {"trials": 20, "split": "dev", "study": run.facts["page"]})
    configure(run_of(altered_study, page=CONTROL, seed=3), "training.learning_rate", 1e-5)
    assert refusal(altered_study).field == "config.training.learning_rate"


def test_the_split_on_which_s5_chose_is_not_judged_and_the_other_is_without_being_named(altered_study):
    for run in find_runs(altered_study):
        metrics = json.loads(run.metrics_json.read_text())
        run.metrics_json.write_text(json.dumps(metrics + [metric | {"split": "dev"} for metric in metrics]))
        sign(run)
    with pytest.raises(ConfigError, match="these runs have dev, test; choose one by --split"):
        verdict(find_runs(altered_study))
    for run in find_runs(altered_study):
        altered(run, "choice", {"of": "s3a_flat", "split": "dev"})
    assert verdict(find_runs(altered_study))["comparison"]["split"] == "test"
    with pytest.raises(IncomparableRuns, match="choice.split: .* chose its strategy on 'dev'"):
        verdict(find_runs(altered_study), split="dev")


def test_one_seed_per_arm_is_refused(altered_study):
    for run in find_runs(altered_study):
        if run.facts["seed"] != 1:
            removed(run)
    assert "at least 2 per arm" in str(refusal(altered_study))


def test_a_seed_without_its_control_is_not_left_out(altered_study):
    for run in find_runs(altered_study):
        if run.facts["seed"] == 3 and run.facts["page"] == CONTROL:
            removed(run)
    error = refusal(altered_study)
    assert error.field == "seed" and "[3] missing in" in str(error) and "control of" in str(error)


def test_a_task_without_controls_is_not_left_out_of_the_family(altered_study):
    for run in find_runs(altered_study):
        if run.facts["page"] == CONTROL and RANKING in run.facts["tasks"]:
            run.manifest_json.unlink()
    assert refusal(altered_study).field == "tasks"


def test_the_second_control_alone_decides_nothing(altered_study):
    for run in find_runs(altered_study):
        if run.manifest().get("twin", {}).get("control") == "total":
            run.manifest_json.unlink()
    assert refusal(altered_study).field == "twin.control"


def test_a_run_that_was_repeated_is_no_further_seed(altered_study):
    run = run_of(altered_study, page=CONTROL)
    again = altered_study / "again"
    shutil.copytree(run.path, again)
    try:
        assert "more than once" in str(refusal(altered_study))
    finally:
        for path in again.rglob("*"):
            if path.is_file():
                path.unlink()


@pytest.mark.parametrize("change", ["a figure", "a document", "another id", "no documents"])
def test_documents_that_do_not_make_the_recorded_figure_are_refused(altered_study, change):
    run = run_of(altered_study, page=CONTROL)
    records = run.read_documents(NOTES, "test")
    if change == "a figure":
        metrics = json.loads(run.metrics_json.read_text())
        metrics[0]["value"] += 0.01
        run.metrics_json.write_text(json.dumps(metrics))
        sign(run)
    elif change == "a document":
        records[0]["tp"] += 1
    elif change == "another id":
        records[0]["document"] = "elsewhere"
    else:
        records = []
    if change != "a figure":
        run.write_documents(NOTES, "test", records)
        sign(run)
    assert refusal(altered_study).field == f"documents/{NOTES}.test.jsonl"


def test_a_damaged_copy_of_the_scorer_or_of_the_number_of_items_is_refused(altered_study):
    run = run_of(altered_study, page=CONTROL)
    metrics = json.loads(run.metrics_json.read_text())
    metrics[0]["n"] += 1
    run.metrics_json.write_text(json.dumps(metrics))
    sign(run)
    assert refusal(altered_study).field == "metrics.n"
