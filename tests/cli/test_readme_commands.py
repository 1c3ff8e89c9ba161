"""Every command that the documents show exists, with the options it is shown with, and none is left out."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from kaggle_kit.cli.app import app
from kaggle_kit.core.page_files import find_pages
from kaggle_kit.core.types import Access, Mention, UnifiedSample
from kaggle_kit.kaggle.build import Experiment

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EVERYWHERE = README + "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
PLACEHOLDERS = {"$seed": "1", "$task": "semeval2014t7", "$control": "total", "TASK": "semeval2014t7"}
SHOWN = [
    [PLACEHOLDERS.get(word, word) for word in shlex.split(re.sub(r"\$\(.*?\)", "", line), comments=True)]
    for block in re.findall(r"```sh\n(.*?)```", EVERYWHERE, re.S)
    for line in block.replace("\\\n", " ").splitlines()
]
KIT = [words[3:] for words in SHOWN if words[:3] == ["python", "-m", "kaggle_kit"]]
TRAINING = [words for words in KIT if words[0] == "run"]
CHAINED = [words[2:] for words in KIT if words[:2] == ["kernels", "chain"]]
OF_A_KERNEL = ("--model-source", "--kit-dataset", "--kernel")  # with a value that no configuration holds


@pytest.mark.parametrize("words", KIT, ids=" ".join)
def test_the_command_knows_the_options_it_is_shown_with(words):
    command = words[:2] if words[0] in ("data", "pages", "kernels", "study", "hub") else words[:1]
    told = CliRunner().invoke(app, [*command, "--help"], env={"TERMINAL_WIDTH": "200"})
    assert told.exit_code == 0
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", told.stdout), option


@pytest.mark.parametrize("words", [*TRAINING, *(["run", *words] for words in CHAINED)], ids=" ".join)
def test_the_command_composes_as_printed_with_its_key_value_words(words, monkeypatch):
    """A command of the README named an experiment's key without the experiment, and no test composed it."""
    at = [place for place, word in enumerate(words) if word in OF_A_KERNEL]
    met = []

    def composed(page, **given):
        names = ("model", "task", "strategy", "profile", "seed", "overrides")
        met.append(Experiment.of(page, **{name: given[name] for name in names}).config())

    monkeypatch.setattr("kaggle_kit.experiment.page_run.run_page", composed)
    told = CliRunner().invoke(app, [word for n, word in enumerate(words) if not {n, n - 1} & set(at)])
    assert told.exit_code == 0, told.output
    assert met


@pytest.mark.parametrize("group", ["kernels", "pages"])
def test_every_command_of_the_group_and_each_of_its_options_is_shown(group):
    for name, command in get_command(app).commands[group].commands.items():
        assert f"{group} {name}" in EVERYWHERE
        options = {option for one in command.params for option in one.opts if option.startswith("--")}
        unsaid = {"--help", "--check", "--out", "--poll", "--strategy", "--runs-dir"}
        assert [option for option in options - unsaid if option not in EVERYWHERE] == []


def test_every_variable_that_the_kit_reads_is_named():
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "kaggle_kit").rglob("*.py"))
    read = set(re.findall(r"KAGGLE_KIT_[A-Z_]+[A-Z]", sources))
    between_processes = {"KAGGLE_KIT_KAGGLE_ROOT", "KAGGLE_KIT_KEPT_TO_ONE_GPU"}
    examples = {"KAGGLE_KIT_NCBI_DISEASE"}  # of KAGGLE_KIT_<TASK>
    assert len(read) > 4
    assert [name for name in sorted(read - between_processes - examples) if name not in EVERYWHERE] == []


def test_the_environment_is_activated_before_the_first_command_of_the_kit():
    """After `make study` every printed command failed: nothing said how to activate the environment."""
    first = next(n for n, words in enumerate(SHOWN) if words[:1] == ["python"])
    assert [".", ".venv/bin/activate"] in SHOWN[:first]


def test_every_make_target_shown_is_in_the_makefile():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    shown = {words[1] for words in SHOWN if words[:1] == ["make"]}
    shown |= set(re.findall(r"`make ([\w-]+)`", README))
    assert {"study", "test"} <= shown <= set(targets)


def test_every_row_of_the_page_table_is_a_page():
    table = README.partition("| page | what it asks |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \|", table, re.M)
    assert {"s1_single_task", "overview"} <= set(rows) <= set(find_pages())


def test_ci_runs_the_readmes_test_command():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    targets = ["make test", "make canary", "make test-export", "make test-kaggle"]
    assert [line for line in lines if line.startswith("make")] == targets


def test_what_the_readme_prints_in_python_runs_as_printed(monkeypatch, capsys):
    class Found:
        def predict(self, texts):
            assert all(isinstance(text, str) for text in texts)
            mentions = (Mention("T1", ((0, 3),), "Disease", ("D1",), score=0.512),)
            return (UnifiedSample(text, text, "new", Access.PUBLIC, mentions) for text in texts)

    monkeypatch.setattr("kaggle_kit.experiment.load_trained_run.load_trained_run", lambda folder: Found())
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[:3] == [str([(text, "Disease", ("D1",), 0.51)]) for text in ("Mut", "Her", "The")]
