"""`python -m kaggle_kit …`: see `kaggle_kit/ops/cli.py`."""

from kaggle_kit.ops.cli import app

app(prog_name="python -m kaggle_kit")
