"""`python -m kaggle_kit verdict`: judge finished runs against their token-controlled baselines.

python -m kaggle_kit verdict --runs runs --multi-task s3b_hierarchical --out reports/verdict.json
python -m kaggle_kit verdict --study full --out reports/full.study.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kaggle_kit.core.errors import ConfigError


def judge_runs(
    runs: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path("runs"),
    multi_task: Annotated[
        str, typer.Option(metavar="STRATEGY", help="If baselines of several are there.")
    ] = "",
    model: Annotated[str, typer.Option(help="If baselines of several models are there.")] = "",
    split: Annotated[str, typer.Option(help="If the runs report several, such as test.")] = "",
    study: Annotated[str, typer.Option(help="All comparisons of a study of params/study/ together.")] = "",
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = Path("reports/verdict.json"),
) -> None:
    """Say per task and overall whether multi-task runs beat their token-controlled baselines.

    With --study, say it for all models and strategies of a study at one error rate. Exit code 2 where no
    finished run is there.
    """
    from kaggle_kit.analysis.verdict import verdict, write_verdict
    from kaggle_kit.analysis.verdict_words import gains_in_words, in_words, training_in_words
    from kaggle_kit.core.folders import find_runs

    if study:
        if multi_task or model:
            raise ConfigError(
                f"--study {study} judges all its comparisons; leave out --multi-task and --model"
            )
        _judge_study(study, runs, split, out)
        return
    document = verdict(find_runs(runs), strategy=multi_task, model=model, split=split)
    for sentence in (*in_words(document), *gains_in_words(document), *training_in_words(document)):
        typer.echo(sentence)
    typer.echo(f"verdict: {write_verdict(document, out)}")


def _judge_study(name: str, runs_dir: Path, split: str, out: Path) -> None:
    from kaggle_kit.analysis.verdict import judged, write_verdict
    from kaggle_kit.analysis.verdict_study import study_in_words, study_verdict
    from kaggle_kit.core.folders import find_runs
    from kaggle_kit.ops.study.family import comparisons, family_of
    from kaggle_kit.ops.study.selection import load_selection

    selection = load_selection(name)
    declared, found = family_of(selection), {run.run_id: run for run in find_runs(runs_dir)}
    documents = {}
    for pair, of in comparisons(selection).items():
        if there := [found[id] for id in of["runs"] if id in found]:
            documents[pair] = judged(there, strategy=of["strategy"], model=of["model"], split=split)
    document = study_verdict(documents, declared)
    for sentence in study_in_words(document):
        typer.echo(sentence)
    typer.echo(f"verdict: {write_verdict(document, out)}")
