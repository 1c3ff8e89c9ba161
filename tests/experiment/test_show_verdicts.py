"""What pages show of verdicts: torch is not needed, and an empty table says so."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest

from kaggle_kit.analysis.verdict import no_verdict
from kaggle_kit.experiment import show
from kaggle_kit.experiment.show import views

READING = """
import sys
from kaggle_kit import show
from kaggle_kit.analysis.verdict import no_verdict
for name in ("answers", "evidence", "rule", "gains", "arms_training", "inputs"):
    getattr(show, name)(no_verdict("no run is there"))
assert "torch" not in sys.modules
"""


@pytest.fixture
def said(monkeypatch):
    """The text of everything that is shown."""
    found = []
    monkeypatch.setattr(views, "display", lambda view: found.append(repr(view)))
    return found


def test_a_page_that_reads_verdicts_imports_no_torch():
    done = subprocess.run([sys.executable, "-c", READING], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_name_that_show_exports_is_there():
    assert all(callable(getattr(show, name)) for name in show.__all__)
    with pytest.raises(AttributeError, match="it has adapter_shares, adapters"):
        show.nothing  # noqa: B018


def test_the_answer_begins_with_the_word_of_the_verdict(said):
    show.answers(no_verdict("no run is there"))
    assert said == ["Answer: undecided\nundecided: no run is there."]


def test_an_empty_table_says_that_there_is_nothing_yet(said):
    show.table(pd.DataFrame({"task": []}), "Scores")
    assert said == ["Scores\nnothing to show yet"]
