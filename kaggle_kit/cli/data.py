"""`python -m kaggle_kit data …`: which corpora there are, where they lie, whether they are sound.

python -m kaggle_kit data check ncbi_disease --path ~/corpora/ncbi
"""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from kaggle_kit.cli.options import PAIRS, Words

app = typer.Typer(help="The corpora: list, find, check, and write practice ones.", no_args_is_help=True)

Task = Annotated[str, typer.Argument(help="A task id; see `data list`.")]
COLUMNS = ("task", "levels", "format", "access", "metric", "title")


@app.command("list")
def list_tasks() -> None:
    """Every task of the registry: level, file format, access, primary metric."""
    from kaggle_kit.data.registry import describe

    rows = [dict(zip(COLUMNS, COLUMNS, strict=True)), *describe()]
    widths = {column: max(len(row[column]) for row in rows) for column in COLUMNS}
    for row in rows:
        typer.echo("  ".join(f"{row[column]:<{widths[column]}}" for column in COLUMNS).rstrip())


@app.command("locate")
def locate_corpus(task: Task) -> None:
    """Print the folder where a corpus was found, or every place looked at and how to get it.

    What the corpus is, its licence and its metrics go to the error stream, so that the folder stands alone.
    """
    from kaggle_kit.data.locate import locate
    from kaggle_kit.data.registry import task as registered

    known = registered(task)
    typer.echo(f"{known.title}\nreference: {known.reference}\nlicence: {known.licence}", err=True)
    metrics = ", ".join(known.secondary_metrics)
    typer.echo(f"metric: {known.primary_metric}" + (f"; also {metrics}" if metrics else ""), err=True)
    typer.echo(str(locate(known)))


@app.command()
def check(
    task: Task,
    path: Annotated[Path | None, typer.Option(help="The corpus folder, instead of looking for it.")] = None,
    strict: Annotated[bool, typer.Option(help="A record that cannot be used is an error.")] = False,
) -> None:
    """List every problem of a corpus; exit code 1 if one of them makes a file unusable.

    A record that cannot be used is reported and skipped.
    """
    from dataclasses import replace

    from kaggle_kit.data.corpus import check_corpus
    from kaggle_kit.data.locate import locate
    from kaggle_kit.data.registry import task as registered

    known = replace(registered(task), strict=strict)
    root = locate(replace(known, path=str(path)) if path else known)
    problems = check_corpus(known, root)
    for problem in problems:
        typer.echo(str(problem))
    count = Counter(problem.severity for problem in problems)
    skipped = f", {count['skipped']} record(s) skipped" if count["skipped"] else ""
    typer.echo(f"{task} at {root}: {count['error']} error(s), {count['warning']} warning(s){skipped}")
    if count["error"]:
        raise typer.Exit(1)


@app.command()
def practice(
    out: Annotated[Path, typer.Option(help="A folder for the corpora; one subfolder per task.")],
    settings: Annotated[Words, typer.Argument(metavar=PAIRS, help="Such as documents=20.")] = None,
) -> None:
    """Write the synthetic practice corpora of all five tasks in their official formats."""
    from kaggle_kit.core.config import compose
    from kaggle_kit.data.practice import generate

    config = compose(overrides=[f"practice.{setting}" for setting in settings or ()])
    for task, root in generate(out, config.practice).items():
        typer.echo(f"{task}  {root}")
