"""The picture of differences between arms comes from the documents of `contrasts`, number by number."""

from __future__ import annotations

from kaggle_kit.analysis.contrasts import contrasts
from kaggle_kit.analysis.difference_figures import contrast_figure
from kaggle_kit.core.artifacts import find_runs
from tests.analysis.judged_runs import TASKS, Factory


def levels(folder, *seeds):
    factory = Factory(folder)
    for seed in seeds:
        factory.level("on", seed, 0.06)
        factory.level("off", seed)
    return contrasts("ablation", find_runs(folder))


def test_points_and_intervals_stand_where_the_documents_say(tmp_path):
    (document,) = levels(tmp_path, 1, 2, 3)
    (axes,) = contrast_figure([document]).axes
    found = document["contrasts"]
    points = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert points == [100 * each["difference"] for each in found] and len(points) == len(TASKS)
    intervals = [list(line.get_xdata()) for line in axes.lines if line.get_linewidth() == 2.2]
    assert intervals == [[100 * each["low"], 100 * each["high"]] for each in found]
    assert [text.get_text() for text in axes.texts] == [each["verdict"] for each in found]


def test_one_seed_has_a_point_and_no_interval(tmp_path):
    (axes,) = contrast_figure(levels(tmp_path, 1)).axes
    assert not [line for line in axes.lines if line.get_linewidth() == 2.2]
    assert {text.get_text() for text in axes.texts} == {"one seed: no inference"}


def test_toys_are_marked_and_a_refusal_draws_nothing(tmp_path):
    (document,) = levels(tmp_path, 1, 2)
    (axes,) = contrast_figure([document | {"marks": ["smoke", "practice"]}]).axes
    title = (axes.get_title(loc="left") + axes.get_title()).replace("\n", " ")
    assert "smoke and practice: no result" in title
    assert contrast_figure([{"title": "x", "reason": "other data"}]).texts
