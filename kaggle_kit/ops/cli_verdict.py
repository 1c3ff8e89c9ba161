"""`python -m kaggle_kit verdict`: judge finished runs against their counterparts.

python -m kaggle_kit verdict --runs runs --multi-task s3b_hierarchical --out reports/verdict.json
python -m kaggle_kit verdict --question ablation --runs runs --out reports/ablation.json
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import ConfigError

TRANSFER = "transfer"  # the question of the token-controlled baselines


def judge_runs(
    runs: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path("runs"),
    question: Annotated[str, typer.Option(help="transfer, ablation, mimic_exclusion, s5 or ood.")] = TRANSFER,
    multi_task: Annotated[str, typer.Option(metavar="STRATEGY", help="If twins of several are there.")] = "",
    model: Annotated[str, typer.Option(help="If runs of several models are there.")] = "",
    split: Annotated[str, typer.Option(help="If the runs report several, such as test.")] = "",
    as_they_stand: Annotated[
        bool, typer.Option("--as-they-stand", help="Score unfinished runs instead of refusing.")
    ] = False,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = Path("reports/verdict.json"),
) -> None:
    """Say per task and overall whether multi-task runs beat their twins; or answer another question."""
    from kaggle_kit.analysis.survivorship import unfinished_in_words
    from kaggle_kit.analysis.verdict import verdict, write_verdict
    from kaggle_kit.analysis.verdict_words import gains_in_words, in_words
    from kaggle_kit.core.folders import find_runs

    found = find_runs(runs)
    if question != TRANSFER:
        if multi_task:
            raise ConfigError(
                f"--multi-task {multi_task} chooses baselines; leave it out with --question {question}"
            )
        _contrast(question, found, {"model": model, "split": split, "as_they_stand": as_they_stand}, out)
        return
    document = verdict(found, strategy=multi_task, model=model, split=split, as_they_stand=as_they_stand)
    _say((*in_words(document), *gains_in_words(document), *unfinished_in_words(document)))
    typer.echo(f"verdict: {write_verdict(document, out)}")


def _contrast(question: str, runs: Sequence[RunFolder], chosen: Mapping[str, Any], out: Path) -> None:
    from kaggle_kit.analysis.contrasts import contrasts, in_words
    from kaggle_kit.core.records import to_json, write_atomically

    documents = contrasts(question, runs, **chosen)
    if not documents:
        raise ConfigError(
            f"no finished runs of {question} among the {len(runs)} there; run its page first, or name "
            "another folder by --runs"
        )
    _say(in_words(documents))
    typer.echo(f"contrasts: {write_atomically(out, to_json(documents, indent=2))}")


def _say(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        typer.echo(sentence)
