"""The specification's tables against what would run, and the table of requirements against the project."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from kaggle_kit.core.config import compose
from kaggle_kit.core.schema import NF4_ABOVE_PARAMETERS, plain_values
from kaggle_kit.data.practice import FIVE

ROOT = Path(__file__).resolve().parents[2]
SPECIFICATION = yaml.safe_load((ROOT / "tests/static/specification.yaml").read_text(encoding="utf-8"))
TABLE = ROOT / "docs/specification.md"
STATUS = ("done", "differs", "later")
LONG = {short: f"{short}_proj" for short in ("q", "k", "v", "o", "gate", "up", "down")}
FUSED = {"phi3mini": {"q": "qkv_proj", "k": "qkv_proj", "v": "qkv_proj"}}  # one layer holds all three


def would_run(strategy: str | None = "s1_single", model: str = "llama3b", **more: Any) -> dict[str, Any]:
    tasks = FIVE[:1] if strategy == "s1_single" and "experiment" not in more else FIVE
    return plain_values(compose(model, tasks, strategy, "t4", **more))


@pytest.mark.parametrize("model", SPECIFICATION["models"])
def test_a_model_has_the_registrys_rank_targets_and_base(model):
    said, run = SPECIFICATION["models"][model], would_run(model=model)
    assert run["model"]["hub_id"] == said["hub_id"]
    assert round(run["model"]["parameters"] / 1e9, 1) == said["billions"]
    assert (run["model"]["lora"]["rank"], run["strategy"]["rank"]) == (said["rank"], said["rank"])
    assert run["model"]["lora"]["alpha"] == SPECIFICATION["alpha"].get(model, 2 * said["rank"])
    assert run["model"]["lora"]["dropout"] == SPECIFICATION["dropout"]
    assert run["strategy"]["quantization"] == said["quantization"]
    names = LONG | FUSED.get(model, {})
    assert run["model"]["lora"]["targets"] == list(dict.fromkeys(names[short] for short in said["targets"]))


def test_more_than_four_billion_parameters_are_quantised():
    assert NF4_ABOVE_PARAMETERS == 4_000_000_000


@pytest.mark.parametrize("strategy", SPECIFICATION["strategies"])
def test_a_strategy_is_set_as_specified(strategy):
    said, run = SPECIFICATION["strategies"][strategy], would_run(strategy)["strategy"]
    assert {key: run[key] for key in said} == said


@pytest.mark.parametrize("variant", SPECIFICATION["ablations"])
def test_a_variant_of_the_architecture_ablation_is_as_specified_and_follows_the_same_plan(variant):
    run = would_run(variant, experiment="ablation_architecture")
    said = SPECIFICATION["ablations"][variant]
    assert {key: run["strategy"][key] for key in said} == said
    plan = {key: run["strategy"][key] for key in ("sampling", "temperature", "loss_weighting")}
    assert plan == {key: SPECIFICATION["strategies"]["s3a_flat"][key] for key in plan}
    assert (list(run["tasks"]), run["training"]["selection"]) == (list(FIVE), "last")


def test_mimic_exclusion_goes_with_s3a_and_s3b_over_five_tasks():
    for strategy in SPECIFICATION["exclusion"]["strategies"]:
        run = would_run(strategy, experiment="mimic_exclusion")
        assert run["experiment"]["kept"] == SPECIFICATION["exclusion"]["kept"]
        assert list(run["tasks"]) == list(FIVE)


@pytest.mark.parametrize("strategy", SPECIFICATION["strategies"])
def test_every_paper_run_trains_within_the_specifications_constants_and_space(strategy):
    run = would_run(strategy)
    training = run["training"]
    assert {key: training[key] for key in SPECIFICATION["training"]} == SPECIFICATION["training"]
    for key in ("learning_rate", "effective_batch", "epochs", "warmup"):
        assert training[key] in SPECIFICATION["space"][f"training.{key}"]
    assert run["profile"]["report"] == ["test"]


@pytest.mark.parametrize(
    "experiment", ["token_controlled", "mimic_exclusion", "hp_search", *SPECIFICATION["factors"]]
)
def test_no_arm_of_a_comparison_stops_early_or_picks_a_step(experiment):
    strategy = None if experiment.startswith("ablation") else "s3a_flat"  # an ablation says which
    assert would_run(strategy, experiment=experiment)["training"]["selection"] == "last"


def test_the_search_space_is_the_specifications():
    search = would_run("s2_shared", experiment="hp_search")["experiment"]
    assert search["space"] == SPECIFICATION["space"]
    assert len(search["full_models"]) == SPECIFICATION["full_search_models"]
    assert len(search["reduced"]) == SPECIFICATION["reduced_search_configs"]


@pytest.mark.parametrize("task", SPECIFICATION["levels"])
def test_a_task_stands_on_its_levels(task):
    components = would_run("s2_shared")["tasks"][task]["components"]
    levels = sorted({component["level"] for component in components})
    assert set(levels) >= set(SPECIFICATION["levels"][task])  # 2016 Task 12 finds its events first
    assert levels == SPECIFICATION["levels"][task] or task == "semeval2016t12"


@pytest.mark.parametrize("task", SPECIFICATION["scores"])
def test_a_task_has_its_published_best(task):
    published = would_run("s2_shared")["tasks"][task]["published_best"]
    assert published[0]["value"] == SPECIFICATION["scores"][task]["value"]


@pytest.mark.parametrize("experiment", SPECIFICATION["factors"])
def test_a_design_choice_is_ablated_over_its_levels(experiment):
    for level in (levels := SPECIFICATION["factors"][experiment]):
        run = would_run(None, experiment=experiment, overrides=[f"experiment.level={level}"])
        assert run["experiment"]["levels"] == levels
        factor = run["experiment"]["factor"]
        assert run["strategy"][factor] == {"on": True, "off": False}.get(level, level)


# --- docs/specification.md -------------------------------------------------------------------------


@cache
def rows() -> tuple[dict[str, str], ...]:
    """The rows of all tables of docs/specification.md, by the names of its columns."""
    found, names = [], None
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            names = None
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if names is None:
            names = cells
        elif not set("".join(cells)) <= set("-: "):
            assert len(cells) == len(names), line
            found.append(dict(zip(names, cells, strict=True)))
    return tuple(found)


def test_the_table_has_a_row_for_each_of_about_120_requirements_and_no_number_twice():
    numbers = [row["no."] for row in rows()]
    assert len(numbers) >= 120 and len(set(numbers)) == len(numbers)
    assert {number.partition(".")[0] for number in numbers} == {"C", "T", "M", "S", "O"}  # the five documents


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["no."])
def test_a_row_has_a_status_and_says_where_it_lives_and_why_it_differs(row):
    assert row["status"] in STATUS
    places = re.findall(r"`([^`]+)`", row["where"])
    if row["status"] == "done":
        assert places, "name the file or the command"
    for place in places:
        if not place.startswith("python -m kaggle_kit"):
            assert (ROOT / place).exists(), f"{place} does not exist"
    if row["status"] == "differs":
        assert all(row[column] for column in ("theirs", "ours", "why"))
    if row["status"] == "later":
        assert row["why"]
