"""`python -m kaggle_kit study …`: plan a study, run what is missing of it, see where it stands.

python -m kaggle_kit study plan full
python -m kaggle_kit study run rq5_practice seeds=[1,2] --cores 2
python -m kaggle_kit study run full -- --executor slurm
"""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kaggle_kit.cli.options import RUNS, Changes, RunsDir
from kaggle_kit.core.errors import STOPPED
from kaggle_kit.study import DEFAULT

if TYPE_CHECKING:
    from kaggle_kit.study.graph import Study

app = typer.Typer(help="The study as a graph: its cost, running it, where it stands.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="A file of params/study/.")]


@app.command()
def plan(name: Name = DEFAULT, changes: Changes = None, runs_dir: RunsDir = RUNS) -> None:
    """Predict hours and Kaggle weeks before anything runs, and what leaving something out would save."""
    from kaggle_kit.study.cost import predict

    name, changes = _named(name, changes)
    typer.echo(predict(name, changes, runs_dir))


@app.command()
def run(
    name: Name = DEFAULT,
    changes: Changes = None,
    runs_dir: RunsDir = RUNS,
    reports_dir: Annotated[Path, typer.Option(help="Where report and verdict go.")] = Path("reports"),
    cores: Annotated[int, typer.Option(help="Pages at once, each on one thread.", min=1)] = 2,
) -> None:
    """Run what is missing of a study; what stands after -- goes to Snakemake (such as --executor slurm).

    It can be stopped and started again: finished runs are kept, unfinished ones go on. Exit code 75 where
    nothing failed but some runs are paused at their session's end, 1 where a run failed.
    """
    from kaggle_kit.study import status
    from kaggle_kit.study.graph import Study
    from kaggle_kit.study.spec import load_selection
    from kaggle_kit.study.workflow import LOG, STATE, Places, run_study

    name, changes = _named(name, changes)
    changes, more = _split(changes)
    study = Study(load_selection(name, changes), changes, name)
    code = run_study(study, Places(runs_dir, reports_dir), cores, more, typer.echo)
    found = status.states(study, runs_dir)
    if code == STOPPED:
        done = list(found.values()).count(status.DONE)
        again = shlex.join(["python", "-m", "kaggle_kit", *sys.argv[1:]])
        typer.echo(f"stopped with {done} of {len(found)} runs done; go on with `{again}`", err=True)
        raise typer.Exit(code)
    for id, state in found.items():
        if state in (status.FAILED, status.PAUSED):
            typer.echo(f"{state}: {runs_dir / id}\n  {status.why(runs_dir / id)}", err=True)
    if code == 0 and set(found.values()) == {status.DONE}:
        _answer(study, reports_dir / study.selection.report)
        return
    typer.echo(status.table(study, found))
    if set(found.values()) == {status.DONE} and not more:
        logs = f"{reports_dir}/*.log and {runs_dir / STATE / LOG}"
        typer.echo(f"the verdict or the report failed; {logs} say why", err=True)
    only_paused = status.PAUSED in found.values() and status.FAILED not in found.values()
    raise typer.Exit(75 if only_paused and code == 1 else code)


@app.command("status")
def show_status(name: Name = DEFAULT, changes: Changes = None, runs_dir: RunsDir = RUNS) -> None:
    """Count what is done, running, paused, unfinished and missing."""
    from kaggle_kit.study import status
    from kaggle_kit.study.graph import Study
    from kaggle_kit.study.spec import load_selection

    study = Study(load_selection(*_named(name, changes)))
    typer.echo(f"{study.selection.title}\n{status.table(study, status.states(study, runs_dir))}")


def _answer(study: "Study", report: Path) -> None:
    """The study's verdict in words, or its one comparison's; the other questions; where the report lies."""
    from kaggle_kit.analysis import contrasts, verdict_study, verdict_words

    def read_report(name: str) -> Any:
        return json.loads(report.with_name(f"{report.name}.{name}.json").read_text(encoding="utf-8"))

    pairs = list(study.verdicts())
    if len(pairs) > 1:
        typer.echo("\n".join(verdict_study.study_in_words(read_report("study"))))
    elif pairs:
        typer.echo("\n".join(verdict_words.in_words(read_report(f"{pairs[0]}.verdict"))))
    for question in study.questions():
        typer.echo("\n".join(contrasts.in_words(read_report(f"{question}.contrasts"))))
    typer.echo(f"report: {report}.html")


def _named(name: str, words: list[str] | None) -> tuple[str, list[str]]:
    """The study and the words behind it; a first word that can be no name stands behind the default."""
    left_out = name.startswith("-") or "=" in name
    return (DEFAULT, [name, *(words or ())]) if left_out else (name, list(words or ()))


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Changes of the selection, and Snakemake's own options behind the first word that begins with a dash."""
    first = next((n for n, word in enumerate(words) if word.startswith("-")), len(words))
    return list(words[:first]), list(words[first:])
