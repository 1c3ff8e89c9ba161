"""`python -m kaggle_kit verdict`: judge finished runs against their token-controlled twins.

python -m kaggle_kit verdict --runs runs --multi-task s3b_hierarchical --out reports/verdict.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def judge_runs(
    runs: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path("runs"),
    multi_task: Annotated[str, typer.Option(metavar="STRATEGY", help="If twins of several are there.")] = "",
    model: Annotated[str, typer.Option(help="If twins of several models are there.")] = "",
    split: Annotated[str, typer.Option(help="If the runs report several, such as test.")] = "",
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = Path("reports/verdict.json"),
) -> None:
    """Say per task and overall whether multi-task runs beat their token-controlled twins."""
    from kaggle_kit.analysis.verdict import verdict, write_verdict
    from kaggle_kit.analysis.verdict_words import gains_in_words, in_words
    from kaggle_kit.core.folders import find_runs

    document = verdict(find_runs(runs), strategy=multi_task, model=model, split=split)
    for sentence in (*in_words(document), *gains_in_words(document)):
        typer.echo(sentence)
    typer.echo(f"verdict: {write_verdict(document, out)}")
