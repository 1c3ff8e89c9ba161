"""The overview of hand-made run folders: the right figures in the table, an honest and closed report."""

from __future__ import annotations

import math
import re
from dataclasses import asdict
from html.parser import HTMLParser

import pytest

from kaggle_kit.analysis.figures import arm_ranges, loss_curves, png, tokens_per_task
from kaggle_kit.analysis.overview import arm_table, overview_table, published_best, summary_in_words
from kaggle_kit.analysis.report import write_report
from kaggle_kit.core.artifacts import Metric, Totals, find_runs
from kaggle_kit.core.config import compose
from kaggle_kit.core.runs import start_run
from kaggle_kit.data import registry


def add_run(
    folder,
    *,
    task="semeval2017t3",
    model="tiny",
    profile="smoke",
    metric="map",
    value=0.25,
    splits=("dev",),
    **facts,
):
    run = start_run(compose(task=task, model=model, profile=profile), page="s1_single_task", runs_dir=folder)
    for step, loss in enumerate((0.9, math.nan, 0.3), start=1):
        run.append_event({"step": step, "losses": {task: loss}})
    run.write_metrics([Metric(metric, value, "share", split, 500, task, task) for split in splits])
    run.finish(totals=Totals({task: 1200}, 64, 3.5), device="cpu", data_hashes={task: "ab" * 32}, **facts)
    return run


def test_a_row_holds_score_cost_and_flags(tmp_path):
    add_run(tmp_path)
    (row,) = overview_table(find_runs(tmp_path)).to_dict("records")
    assert (row["task"], row["model"], row["profile"], row["seed"]) == ("semeval2017t3", "tiny", "smoke", 42)
    assert (row["metric"], row["score"], row["split"], row["n"]) == ("map", 0.25, "dev", 500)
    assert (row["tokens"], row["parameters"], row["seconds"]) == (1200, 64, 3.5)
    assert row["flags"] == "smoke, practice"


def test_a_practice_run_is_not_set_beside_the_published_best(tmp_path):
    add_run(tmp_path)
    add_run(tmp_path, profile="open", model="minilm")
    table = overview_table(find_runs(tmp_path)).set_index("profile")["published"]
    assert math.isnan(table["smoke"])
    assert table["open"] == 0.8843  # KeLP on subtask A, not the figures of B, C or D


def test_the_published_best_is_of_the_same_metric():
    task = {"primary_metric": "f1", "published_best": [{"metric": "accuracy", "value": 0.9, "system": ""}]}
    assert published_best(task) is None
    task["published_best"] += [{"metric": "f1", "value": value, "system": ""} for value in (0.5, 0.7)]
    assert published_best(task) == 0.7


@pytest.mark.parametrize(("given", "value"), [(False, 0.479), (True, 0.573)])
def test_a_figure_with_gold_entities_given_stands_beside_runs_of_that_setting_only(given, value):
    task = asdict(registry.task("semeval2016t12")) | {"gold_entities": given}
    assert published_best(task) == value


def test_a_run_without_its_primary_metric_has_a_row_without_a_score(tmp_path):
    add_run(tmp_path, metric="mrr")
    (row,) = overview_table(find_runs(tmp_path)).to_dict("records")
    assert (math.isnan(row["score"]), row["split"]) == (True, "")


def test_every_scored_split_is_a_row(tmp_path):
    add_run(tmp_path, splits=("dev", "test"))
    assert list(overview_table(find_runs(tmp_path))["split"]) == ["dev", "test"]


def test_arms_of_a_task_stand_with_their_number_of_runs_and_the_best_first(tmp_path):
    for value in (0.2, 0.3):
        add_run(tmp_path, value=value)
    add_run(tmp_path, value=0.5, splits=("test",))
    add_run(tmp_path, metric="mrr")  # has no primary score
    runs = find_runs(tmp_path)
    dev, test = arm_table(overview_table(runs)).to_dict("records")
    assert (dev["arm"], dev["runs"], dev["lowest"], dev["highest"]) == ("s1_single", 2, 0.2, 0.3)
    assert (dev["mean"], test["mean"], test["split"]) == (pytest.approx(0.25), 0.5, "test")
    upper, lower = arm_ranges(arm_table(overview_table(runs))).axes
    assert [list(line.get_xdata()) for line in upper.lines] == [[0.2, 0.3], [pytest.approx(0.25)]]
    assert list(lower.lines[1].get_xdata()) == [0.5]


def test_the_summary_counts_results_and_names_what_is_left_out(tmp_path):
    add_run(tmp_path)
    add_run(tmp_path, profile="open", model="minilm", splits=("dev", "test"))
    counts, toys, why = summary_in_words(overview_table(find_runs(tmp_path)), ["one: edited"])
    assert counts == "finished runs: 2; tasks: 1; results: 1" and why == "left out: one: edited"
    assert toys.startswith("smoke or practice runs") and toys.endswith(": 1")


def test_a_loss_curve_leaves_out_the_step_that_overflowed(tmp_path):
    (axes,) = loss_curves([add_run(tmp_path)]).axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == [1, 3]
    assert list(line.get_ydata()) == [0.9, 0.3]


def test_runs_of_one_arm_are_drawn_in_one_colour_and_named_once(tmp_path):
    runs = [add_run(tmp_path), add_run(tmp_path), add_run(tmp_path, twin={"control": "total"})]
    (axes,) = loss_curves(runs).axes
    one, two, control = [line.get_color() for line in axes.lines]
    assert one == two != control
    named = ["s1_single · tiny", "control, total tokens · tiny"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == named
    assert overview_table(runs)["arm"].tolist() == ["s1_single", "s1_single", "control, total tokens"]


def test_bars_are_as_long_as_the_tokens(tmp_path):
    add_run(tmp_path)
    assert [bar.get_width() for bar in tokens_per_task(find_runs(tmp_path)).axes[0].patches] == [1200]


def test_figures_of_no_runs_say_so_and_still_draw():
    arms = arm_table(overview_table([]))
    for figure in (loss_curves([]), tokens_per_task([]), arm_ranges(arms)):
        assert "no run" in figure.texts[0].get_text()
        assert png(figure).startswith(b"\x89PNG")


def test_a_report_of_toy_runs_says_at_its_top_that_they_are_no_results(tmp_path):
    add_run(tmp_path)
    text = write_report(find_runs(tmp_path), tmp_path / "out" / "report.html").read_text()
    assert text.index("SMOKE / PRACTICE") < text.index("<table")
    assert "1 of the 1 run(s)" in text
    assert "0.2500" in text


def test_a_report_of_full_runs_has_no_banner(tmp_path):
    add_run(tmp_path, profile="open", model="minilm", task="ncbi_disease", metric="strict_f1", value=0.7785)
    text = write_report(find_runs(tmp_path), tmp_path / "report.html").read_text()
    assert "SMOKE" not in text
    assert "0.7785" in text


def test_an_empty_study_still_gets_a_report(tmp_path):
    assert "No finished run" in write_report([], tmp_path / "report.html").read_text()


class References(HTMLParser):
    """Collects every address that a browser would fetch, and the stack of open tags."""

    def __init__(self):
        super().__init__()
        self.addresses, self.open = [], []

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset")]
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_is_one_file_that_fetches_nothing(tmp_path):
    add_run(tmp_path)
    text = write_report(find_runs(tmp_path), tmp_path / "report.html").read_text()
    page = References()
    page.feed(text)
    assert page.open == []
    assert len(page.addresses) == 3
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not re.search(r"https?://|url\(|@import|<script", text)


@pytest.mark.parametrize("name", ["<b>x</b>", "a&b"])
def test_names_from_a_run_cannot_inject_markup(tmp_path, name):
    run = start_run(compose(), page="page", runs_dir=tmp_path)
    run.write_metrics([Metric(name, 0.5, "share", "dev", 1, "s", "semeval2014t7")])
    run.finish(totals=Totals(), device=name, data_hashes={})
    text = write_report([run], tmp_path / "report.html").read_text()
    assert name not in text


def test_a_report_begins_with_the_verdict_and_each_arm_beside_no_model(tmp_path):
    add_run(tmp_path, task="semeval2014t7", metric="task_a_strict_f1", value=0.5)
    document = {
        "verdict": "undecided",
        "reason": "no finished multi-task run",
        "marks": ["practice"],
        "tasks": {},
        "inputs": [],
    }
    page = write_report(find_runs(tmp_path), tmp_path / "report.html", [document]).read_text()
    answer = page.index("The answer: undecided")
    assert page.index("SMOKE / PRACTICE") < answer < page.index("<h2>Runs</h2>")
    (row,) = overview_table(find_runs(tmp_path)).to_dict("records")
    assert row["trivial"] == 0.0  # an F1 without a model
