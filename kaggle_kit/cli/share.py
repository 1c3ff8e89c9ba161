"""`python -m kaggle_kit export` and `hub push`: a finished run for others to use.

python -m kaggle_kit export runs/mine --out mine
python -m kaggle_kit hub push runs/mine --repo OWNER/NAME
"""

from pathlib import Path
from typing import Annotated

import typer

from kaggle_kit.core.artifacts import RunFolder

hub = typer.Typer(help="Share finished runs on the hub.", no_args_is_help=True)
Run = Annotated[Path, typer.Argument(help="A finished run's folder.")]
Verdict = Annotated[Path | None, typer.Option(help="What `verdict --out` wrote on this run.")]
Agreement = Annotated[str, typer.Option(help="Of restricted text: what allows sharing the weights.")]


def export(
    run: Run,
    out: Annotated[Path, typer.Option(help="A new folder.")],
    verdict: Verdict = None,
    agreement: Agreement = "",
    quantise: Annotated[str, typer.Option(help="gptq or awq: merge the adapters, then 4 bits.")] = "",
    task: Annotated[str, typer.Option(help="With --quantise: one task, where each has adapters.")] = "",
) -> None:
    """Write a finished run as a folder that predicts without this project, with a model card."""
    from kaggle_kit.core.errors import ConfigError
    from kaggle_kit.export.card import Terms
    from kaggle_kit.export.folder import export_run

    terms, opened = Terms(verdict, agreement), RunFolder.open(run)
    if quantise:
        from kaggle_kit.experiment.quantised import export_quantised

        export_quantised(opened, out, terms, quantise, task)
    elif task:
        raise ConfigError(f"--task {task} goes with --quantise; without it all tasks are exported")
    else:
        export_run(opened, out, terms)
    typer.echo(f"{out}: see its README.md")


@hub.callback()
def _group() -> None:
    """Share finished runs on the hub."""


@hub.command("push")
def push_run(
    run: Run,
    repo: Annotated[str, typer.Option(help="OWNER/NAME on the hub.")],
    private: Annotated[bool, typer.Option("--private/--public", help="Who may see it.")] = True,
    verdict: Verdict = None,
    agreement: Agreement = "",
) -> None:
    """Export a finished run and upload it, to a private repository unless --public is given."""
    from kaggle_kit.export.card import Terms
    from kaggle_kit.export.hub import push

    typer.echo(push(RunFolder.open(run), repo, Terms(verdict, agreement), private))
