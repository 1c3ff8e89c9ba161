"""`python -m kaggle_kit predict RUN --in notes --out found`: new text, read by a finished run.

python -m kaggle_kit predict runs/mine --in notes.jsonl --out found --format brat
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from kaggle_kit.core.types import Access


def predict(
    run: Annotated[Path, typer.Argument(help="A finished run's folder.")],
    place: Annotated[Path, typer.Option("--in", help="A .txt or .jsonl file, or a folder of them.")],
    out: Annotated[Path, typer.Option(help="A new folder for the predictions.")],
    form: Annotated[
        str, typer.Option("--format", help="jsonl, brat, bigbio, or official: the task's own.")
    ] = "jsonl",
    task: Annotated[str | None, typer.Option(help="One of the run's tasks, where it has several.")] = None,
    access: Annotated[Access | None, typer.Option(help="Of restricted text no word is written.")] = None,
    model: Annotated[str | None, typer.Option(help="Where the backbone lies on this machine.")] = None,
) -> None:
    """Predict new text with a finished run, without its corpus; texts are read as a stream.

    Without --access the text counts as restricted where the run's own corpus is.
    """
    from kaggle_kit.evaluation.texts import chosen_task, read_texts
    from kaggle_kit.experiment.load_trained_run import load_trained_run
    from kaggle_kit.experiment.new_text import Destination, write_predictions

    target = Destination(out, form)
    trained = load_trained_run(run, model)
    name = chosen_task(trained.specs, task)
    said = access or trained.specs[name].access
    counts = write_predictions(trained, name, _shown(read_texts(place, said)), target)
    held = (f"{number:,} {what}" for what, number in counts.items() if number or what == "documents")
    typer.echo(f"{name}: {', '.join(held)} in {out}")


def _shown(samples: Iterable[Any]) -> Iterable[Any]:
    """The samples, with a count on a terminal."""
    from rich.console import Console
    from rich.progress import track

    screen = Console(stderr=True)
    return track(samples, "documents", total=None, console=screen, disable=not sys.stderr.isatty())
