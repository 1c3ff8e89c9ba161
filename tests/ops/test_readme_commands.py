"""Every command that the README shows exists, with the options it is shown with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kaggle_kit.ops.cli import app
from kaggle_kit.ops.pages import find_pages

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN = [
    line.split("#")[0].split()
    for block in re.findall(r"```sh\n(.*?)```", README, re.S)
    for line in block.splitlines()
]
KIT = [words[3:] for words in SHOWN if words[:3] == ["python", "-m", "kaggle_kit"]]


@pytest.mark.parametrize("words", KIT, ids=" ".join)
def test_the_command_knows_the_options_it_is_shown_with(words):
    command = words[:2] if words[0] in ("data", "pages", "kernels", "study") else words[:1]
    told = CliRunner().invoke(app, [*command, "--help"], env={"TERMINAL_WIDTH": "200"})
    assert told.exit_code == 0
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", told.stdout), option


def test_every_make_target_shown_is_in_the_makefile():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    shown = {words[1] for words in SHOWN if words[:1] == ["make"]} | set(re.findall(r"`make (\w+)`", README))
    assert {"study", "test"} <= shown <= set(targets)


def test_every_row_of_the_page_table_is_a_page():
    rows = re.findall(r"^\| `(\w+)` \|", README, re.M)
    assert {"s1_single_task", "overview"} <= set(rows) <= set(find_pages())


def test_ci_runs_the_readmes_test_command():
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().endswith("make test")
