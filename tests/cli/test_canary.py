"""Planted words and tokens: every page and command runs on restricted corpora, and nothing holds them."""

from __future__ import annotations

import base64
import lzma
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.canary_search import Finding, search
from benchmarks.canary_steps import TOO_FEW
from kaggle_kit.core.page_files import find_pages

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.canary
def test_no_word_of_a_restricted_corpus_and_no_token_is_written_printed_or_sent():
    command = [sys.executable, "-m", "benchmarks.canary", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", done.stdout, re.MULTILINE))
    assert figures["restricted words outside the corpora and the cache"] == "0"
    assert figures["tokens anywhere"] == "0"
    assert int(figures["their places in the corpora, as the search counts them"].replace(",", "")) > 1000
    assert int(figures["requests that left the process"]) > 0  # the services were tried
    assert int(figures["wandb runs kept in run folders"]) > 0
    logs = "journals, logs of Snakemake and of pages, and HTML reports among the files"
    assert int(figures[logs]) >= 4  # one of each
    assert {figures[f"page {name}"] for name in find_pages() if name not in TOO_FEW} == {"well"}
    assert figures["page s1_single_task, damaged"] == "CellExecutionError"


def test_the_search_finds_a_word_in_plain_files_archives_names_and_embedded_kits(tmp_path):
    planted = b"xx Zqwxvbnk xx"
    (tmp_path / "plain.bin").write_bytes(b"\x00" + planted)
    (tmp_path / "packed.xz").write_bytes(lzma.compress(planted * 40))
    text = base64.b85encode(lzma.compress(planted * 40)).decode()
    (tmp_path / "page.ipynb").write_text(f'base64.b85decode(\\"\\"\\"\\n{text}\\n\\"\\"\\")')
    (tmp_path / "zqwxvbnk.txt").write_bytes(b"innocent")
    (tmp_path / "clean.txt").write_bytes(b"zqwx vbnk")
    findings, looked = search([tmp_path], {"canary": ["zqwxvbnk"], "token": ["absent"]})
    assert {(found.path.name, found.times) for found in findings} == {
        ("plain.bin", 1),
        ("packed.xz", 40),
        ("page.ipynb", 40),
        ("zqwxvbnk.txt", 1),
    }
    assert looked["files"] == 5
    assert str(Finding("canary", Path("a"), 2)) == "FOUND canary: 2 in a"
