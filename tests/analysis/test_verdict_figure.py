"""Picture, table and words come from the verdict's document, number by number."""

from __future__ import annotations

import pytest

from kaggle_kit.analysis.difference_figures import verdict_figure
from kaggle_kit.analysis.figures import png
from kaggle_kit.analysis.verdict import no_verdict, read_verdict, verdict, verdict_or_refusal, write_verdict
from kaggle_kit.analysis.verdict_tables import verdict_table
from kaggle_kit.analysis.verdict_words import gains_in_words, in_words
from kaggle_kit.core.artifacts import find_runs
from kaggle_kit.core.errors import RunFolderError
from tests.analysis.judged_runs import TASKS, altered


@pytest.fixture(scope="module")
def document(study):
    return verdict(find_runs(study))


def test_points_intervals_and_bands_stand_where_the_document_says(document):
    tasks = document["tasks"]
    upper, lower = verdict_figure(document).axes
    bands = [(bar.get_x(), bar.get_width()) for bar in upper.patches]
    assert bands == [(-100 * t["margin"], 200 * t["margin"]) for t in tasks.values()]
    estimates = [line.get_xdata()[0] for line in upper.lines if line.get_markersize() == 7]
    assert estimates == [100 * t["difference"] for t in tasks.values()]
    intervals = [list(line.get_xdata()) for line in upper.lines if line.get_linewidth() == 2.2]
    assert intervals == [[100 * end for end in t["interval"]] for t in tasks.values()]
    assert [text.get_text() for text in upper.texts] == [t["verdict"] for t in tasks.values()]
    assert [text.get_text() for text in lower.texts] == [document["verdict"]]


def test_every_seed_and_the_second_control_are_drawn(document):
    upper, _ = verdict_figure(document).axes
    assert sum(len(line.get_xdata()) == 3 for line in upper.lines) == len(TASKS)
    assert sum(line.get_marker() == "D" for line in upper.lines) == len(TASKS)


def test_a_picture_of_toys_says_so_and_one_of_nothing_says_why(document):
    marked = verdict_figure(document | {"marks": ["smoke", "practice"]}).axes[0].get_title()
    title = verdict_figure(document).axes[0].get_title()
    titles = [axes.get_title(loc="left") for axes in verdict_figure(document | {"marks": ["smoke"]}).axes]
    assert "NOT A RESULT" in marked + "".join(titles) and "NOT A RESULT" not in title
    nothing = verdict_figure(no_verdict("nothing is there"))
    assert nothing.texts[0].get_text() == "nothing is there"
    assert png(nothing).startswith(b"\x89PNG")


def test_the_table_has_a_row_per_task_and_one_for_all(document):
    table = verdict_table(document).set_index("task")
    assert list(table.index) == [*TASKS, "all tasks"]
    found = document["tasks"][TASKS[0]]
    row = table.loc[TASKS[0]]
    assert (row["difference"], row["low"], row["high"]) == (found["difference"], *found["interval"])
    assert row["p, no difference"] == found["p_holm"]
    assert list(verdict_table(no_verdict("none"))["verdict"]) == ["undecided"]


def test_the_two_parts_of_a_gain_add_up(document):
    contrasts = document["tasks"][TASKS[0]]["contrasts"]
    words = next(gains_in_words(document))
    parts = [f"{contrasts[name]['difference']:+.4f}" for name in ("total", "share")]
    assert all(part in words for part in parts)


def test_no_word_says_equal_of_what_is_only_not_significant(document):
    tasks = document["tasks"]
    undecided = tasks[TASKS[1]] | {"verdict": "undecided", "specification": "undecided", "more_seeds": None}
    (first, _) = in_words(document | {"tasks": {"x": undecided}, "overall": undecided})
    assert "neither is shown" in first and "as good as" not in first
    assert "no number of seeds is enough" in first


def test_a_page_shows_a_refusal_instead_of_stopping(altered_study):
    altered(find_runs(altered_study)[0], "device", "cuda")
    refused = verdict_or_refusal(find_runs(altered_study))
    assert refused["verdict"] == "undecided"
    assert refused["reason"].startswith("the comparison is refused — device: ")


def test_a_written_verdict_is_read_again_and_anything_else_refused(document, tmp_path):
    path = write_verdict(document, tmp_path / "verdict.json")
    assert list(in_words(read_verdict(path))) == list(in_words(document))
    for text in ("{", "[]", '{"verdict": "x"}'):
        path.write_text(text)
        with pytest.raises(RunFolderError, match="kaggle_kit verdict --out"):
            read_verdict(path)


def test_an_interim_verdict_is_marked_in_picture_table_and_words(document):
    interim = document | {"interim": "experiment.seeds declares 1, 2"}
    figure = verdict_figure(interim)
    assert "INTERIM" in "".join(axes.get_title(loc="left") for axes in figure.axes)
    assert all(text.get_text().endswith("(interim)") for axes in figure.axes for text in axes.texts)
    assert all(word.endswith("(interim)") for word in verdict_table(interim)["verdict"])
    words = list(in_words(interim))
    assert words[0].startswith("INTERIM") and all("(interim)" in sentence for sentence in words[1:])
    assert "INTERIM" not in " ".join(in_words(document))


def test_every_other_control_is_drawn_with_a_mark_of_its_own(document):
    upper, lower = verdict_figure(document).axes
    for axes, rows in ((upper, len(TASKS)), (lower, 1)):
        for marker in ("D", "^"):
            assert sum(line.get_marker() == marker for line in axes.lines) == rows
