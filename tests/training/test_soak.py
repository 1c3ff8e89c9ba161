"""A short run of the soak benchmark: training killed at random and at the worst moments."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_killed_runs_end_as_if_they_had_never_died():
    command = [sys.executable, "-m", "benchmarks.soak_resume", "--deaths", "10"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    figures = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", done.stdout, re.MULTILINE))
    assert done.returncode == 0, done.stdout + done.stderr
    assert figures["deaths survived / deaths"] == "10 / 10"
    for name in ("steps lost beyond the last checkpoint", "checkpoints found damaged", "divergent resumes"):
        assert figures[name] == "0"
