"""The command line: `python -m kaggle_kit COMMAND …`, one thin function per command.

    python -m kaggle_kit score semeval2014t7 --gold gold/ --pred pred/ --json
    python -m kaggle_kit run s1_single_task --model minilm --task ncbi_disease training.epochs=5

Imports stand inside the commands, so that `--help` and `score` never wait for torch. An error that
the project raises on purpose is one message on stderr without a traceback, and exit code 2 (1 where
a page failed while it ran). A run that is paused at its session's end is none: exit code 75. Ctrl-C is one
line and exit code 130.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kaggle_kit.cli import config, data, kernels, pages, predict, share, study, verdict
from kaggle_kit.cli.options import RUNS, Names, Page, RunsDir, spread
from kaggle_kit.core.errors import STOPPED, ConfigError, KitError
from kaggle_kit.core.records import writing


class CleanErrors(TyperGroup):
    """A command group that turns every KitError into a message and its exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a KitError ends it with the error's own exit code."""
        try:
            with writing(""):
                return super().invoke(ctx)
        except KitError as error:
            typer.echo(f"{error.label}: {error}", err=True)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            typer.echo("stopped: the same command begins again, or goes on where it can", err=True)
            raise typer.Exit(STOPPED) from error


app = typer.Typer(
    cls=CleanErrors,
    help="Clinical multi-task study: run its pages, score predictions, check corpora.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data")
app.add_typer(pages.app, name="pages")
app.add_typer(kernels.app, name="kernels")
app.add_typer(study.app, name="study")
app.command("config")(config.show)
app.command("verdict")(verdict.judge_runs)
app.command("predict")(predict.predict)
app.command("export")(share.export)
app.add_typer(share.hub, name="hub")


@app.command()
@spread
def run(
    page: Page,
    names: Names,
    seed: Annotated[int, typer.Option(help="Seed of everything random in the run.")] = 42,
    runs_dir: RunsDir = RUNS,
    resume: Annotated[Path | None, typer.Option(help="An unfinished run's folder to go on with.")] = None,
    into: Annotated[Path | None, typer.Option(help="The run's own folder: to start or go on in.")] = None,
) -> None:
    """Execute one page into a run folder and print the folder.

    A name that is left out is that of the experiment, else of the page.
    """
    from kaggle_kit.experiment.page_run import run_page

    folder = run_page(page, **vars(names), seed=seed, runs_dir=runs_dir, resume=resume, into=into)
    typer.echo(str(folder))


@app.command()
def score(
    task: Annotated[str, typer.Argument(help="A task id or the name of an official scorer.")],
    gold: Annotated[Path | None, typer.Option(help="Folder with the gold files.")] = None,
    pred: Annotated[Path | None, typer.Option(help="Folder with the predicted files.")] = None,
    cases: Annotated[Path | None, typer.Option(help="Folder of <case>/gold and <case>/pred.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Score predictions in a task's own file format exactly as its official scorer does."""
    from kaggle_kit.core.restricted import reading
    from kaggle_kit.core.types import Access
    from kaggle_kit.data.registry import task as registered
    from kaggle_kit.data.registry import task_names
    from kaggle_kit.evaluation.metrics import score as score_folders
    from kaggle_kit.evaluation.metrics import score_cases, scorer_of

    scorer_of(task)
    access = registered(task).access if task in task_names() else Access.PUBLIC
    if cases and not (gold or pred):
        with reading(cases, access):
            figures: dict[str, Any] = score_cases(task, cases)
        table = "\n\n".join(f"{case}\n{_table(values)}" for case, values in figures.items())
    elif gold and pred and not cases:
        with reading(pred, access):
            figures = score_folders(task, gold, pred)
        table = _table(figures)
    else:
        given = [name for name, value in (("--gold", gold), ("--pred", pred), ("--cases", cases)) if value]
        found = " and ".join(given) or "none of them"
        raise ConfigError(f"score: found {found}; allowed: --gold DIR with --pred DIR, or --cases DIR alone")
    typer.echo(json.dumps(figures) if as_json else table)


def _table(figures: dict[str, float]) -> str:
    width = max(map(len, figures), default=0)
    return "\n".join(f"{name:<{width}}  {value:>10.4f}" for name, value in figures.items())
