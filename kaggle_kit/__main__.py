"""`python -m kaggle_kit …`: see `kaggle_kit/cli/app.py`."""

try:
    from kaggle_kit.cli.app import app
except ModuleNotFoundError as error:
    raise SystemExit(
        f"error: this Python has no {error.name}: run `make setup` in the checkout once, "
        "then `. .venv/bin/activate` in every new terminal"
    ) from None

app(prog_name="python -m kaggle_kit")
