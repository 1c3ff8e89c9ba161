"""`python -m kaggle_kit data …`: which corpora there are, where they lie, whether they are sound.

python -m kaggle_kit data check ncbi_disease --path ~/corpora/ncbi
"""

import os
import shlex
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from kaggle_kit.cli.options import PAIRS, Words
from kaggle_kit.core.types import Access

app = typer.Typer(help="The corpora: list, find, check, add own and practice ones.", no_args_is_help=True)

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
    """List every problem of a corpus, and what is in it; exit code 1 if a file is unusable.

    A record that cannot be used is reported and skipped.
    """
    from dataclasses import replace

    from kaggle_kit.data.corpus import check_corpus, contents, load_corpus
    from kaggle_kit.data.locate import locate, split_files, splits
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
    there = [split for split in splits(known) if split_files(known, root, split)]
    there += [split for split, cut in known.held_out.items() if cut.source in there]
    for split, samples in load_corpus(known, root, there).splits.items():
        typer.echo(f"{split}: {contents(samples)}")


@app.command("new")
def new_task(
    name: Annotated[str, typer.Option(help="What to call the task, such as my_notes.")],
    form: Annotated[str, typer.Option("--format", help="jsonl, conll, bigbio, hf, brat or pubtator.")],
    path: Annotated[str, typer.Option(help="The corpus folder; for hf also a dataset of the hub.")],
    access: Annotated[Access, typer.Option(help="Of restricted text no word is shown.")] = Access.RESTRICTED,
    out: Annotated[Path | None, typer.Option(help="Own params, if not in $KAGGLE_KIT_PARAMS.")] = None,
    settings: Annotated[Words, typer.Argument(metavar=PAIRS, help="For the reader: column=2.")] = None,
) -> None:
    """Look at a corpus, write a task's file for it, and print the next two commands."""
    from kaggle_kit.core.params import OWN
    from kaggle_kit.data.corpus import contents
    from kaggle_kit.data.locate import variable
    from kaggle_kit.data.new_task import NewTask, look_at, write_task

    options = dict(setting.partition("=")[::2] for setting in settings or ())
    look = look_at(NewTask(name, form, path, access, options))
    params = out or Path(os.environ.get(OWN) or "own_params")
    written = write_task(look.task, params)
    for split, samples in look.corpus.splits.items():
        typer.echo(f"{split}: {contents(samples)}")
    for file in look.unread:
        typer.echo(f"not read, for its name tells no split: {file}", err=True)
    place = "" if "dataset" in look.task.get("options", ()) else shlex.quote(str(look.corpus.root.resolve()))
    where, named = (f" --path {place}", f"{variable(look.corpus.task)}={place} ") if place else ("", "")
    profile = "open" if access == Access.PUBLIC else "open profile.corpora=any"
    typer.echo(f"{written} says: {access}; next:\nexport {OWN}={shlex.quote(str(params.resolve()))}")
    typer.echo(f"python -m kaggle_kit data check {name}{where}")
    typer.echo(f"{named}python -m kaggle_kit run s1_single_task --task {name} --profile {profile}")


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
