"""Experiments side by side: one GPU each, never two on one, and a failure stays alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kaggle_kit.cli.app import app
from kaggle_kit.core.kaggle_image import keep_to_one_gpu
from kaggle_kit.kaggle import side_by_side
from kaggle_kit.kaggle.side_by_side import Ended, run_side_by_side, visible_gpus

# Says which GPU it saw and when; the argument is what it ends with.
PROGRAM = """
import json, os, sys, time
began = time.monotonic()
time.sleep(0.4)
print(json.dumps([os.environ["CUDA_VISIBLE_DEVICES"], began, time.monotonic()]))
sys.exit(int(sys.argv[1]))
"""


def test_four_experiments_on_two_gpus_never_share_one_and_a_failure_stays_alone(tmp_path):
    program = (sys.executable, "-c", PROGRAM)
    ended = run_side_by_side([["0"], ["3"], ["75"], ["0"]], ["0", "1"], tmp_path, program)
    assert [one.returncode for one in ended] == [0, 3, 75, 0]
    assert [one.outcome for one in ended] == ["finished", "failed", "paused", "finished"]
    said = [json.loads(one.log.read_text()) for one in ended]
    assert [gpu for gpu, _, _ in said] == [one.gpu for one in ended]
    spans = {gpu: sorted(span for name, *span in said if name == gpu) for gpu in ("0", "1")}
    assert sum(map(len, spans.values())) == 4
    for times in spans.values():
        for (_, end), (start, _) in zip(times, times[1:], strict=False):
            assert end <= start
    assert min(map(len, spans.values())) >= 1


def test_without_a_gpu_they_run_one_after_the_other_and_see_none(tmp_path):
    ended = run_side_by_side([["0"], ["0"]], [], tmp_path, (sys.executable, "-c", PROGRAM))
    said = [json.loads(one.log.read_text()) for one in ended]
    assert [gpu for gpu, _, _ in said] == ["", ""]
    assert said[0][2] <= said[1][1]


def test_the_visible_gpus_are_those_of_the_environment_where_it_names_them():
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "0,1"}) == ["0", "1"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "1"}) == ["1"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}) == []
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "-1"}) == []


def test_a_kernel_that_kept_its_page_to_one_gpu_hides_the_other_from_nobody_else(tmp_path, monkeypatch):
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 0\necho 1\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    environ: dict[str, str] = {}
    keep_to_one_gpu(environ)
    assert environ["CUDA_VISIBLE_DEVICES"] == "0" and visible_gpus(environ) == ["0", "1"]
    chosen = {"CUDA_VISIBLE_DEVICES": "1"}
    keep_to_one_gpu(chosen)
    assert visible_gpus(chosen) == ["1"]


@pytest.mark.parametrize(("codes", "exit_code"), [((0, 0), 0), ((0, 75), 75), ((75, 3), 1)])
def test_the_command_tells_paused_from_failed(codes, exit_code, tmp_path, monkeypatch):
    ended = [Ended(("run",), "0", code, Path("1.log")) for code in codes]
    monkeypatch.setattr(side_by_side, "run_side_by_side", lambda *_: ended)
    command = ["kernels", "side-by-side", "s1_single_task", "--runs-dir", str(tmp_path)]
    assert CliRunner().invoke(app, command).exit_code == exit_code
