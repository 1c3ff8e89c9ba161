"""`python -m kaggle_kit pages …`: the notebook pages and their generated pairs."""

from pathlib import Path
from typing import Annotated

import typer

from kaggle_kit.cli.options import Words

app = typer.Typer(help="The notebook pages and their generated .ipynb pairs.", no_args_is_help=True)


@app.command("list")
def list_pages() -> None:
    """Name every page and the parameters that it declares."""
    from kaggle_kit.core.page_files import find_pages, parameters

    for name, path in find_pages().items():
        typer.echo(f"{name}  " + "  ".join(f"{key}={value!r}" for key, value in parameters(path).items()))


@app.command()
def pair(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if one is stale.")] = False,
) -> None:
    """Generate the .ipynb of every page from its .py source."""
    from kaggle_kit.core.page_files import find_pages, is_paired
    from kaggle_kit.core.page_files import pair as write_pair

    stale = [path for path in find_pages().values() if not is_paired(path)]
    for path in stale:
        typer.echo(f"stale: {path.with_suffix('.ipynb')}" if check else f"written: {write_pair(path)}")
    if not stale:
        typer.echo("every page has its pair")
    elif check:
        typer.echo("run `python -m kaggle_kit pages pair`", err=True)
        raise typer.Exit(1)


@app.command()
def execute(
    page: Annotated[str, typer.Argument(help="A page that trains nothing, such as overview.")],
    values: Annotated[Words, typer.Argument(metavar="[NAME=VALUE]...", help="Such as runs_dir=runs.")] = None,
    out: Annotated[Path, typer.Option(help="The executed copy.")] = Path("reports/page.ipynb"),
) -> None:
    """Execute a page that trains nothing; pages that train go by `run`."""
    from kaggle_kit.core.page_files import page_path, typed_values
    from kaggle_kit.experiment.page_run import execute_page

    source = page_path(page)
    typer.echo(str(execute_page(source, typed_values(source, values or ()), out)))
