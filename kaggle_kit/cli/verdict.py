"""`python -m kaggle_kit verdict`: judge finished runs against their counterparts.

python -m kaggle_kit verdict --runs runs --multi-task s3b_hierarchical --out reports/verdict.json
python -m kaggle_kit verdict --study full --out reports/full.study.json
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
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="As the study was run, with --study.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path("runs"),
    question: Annotated[str, typer.Option(help="transfer, ablation, mimic_exclusion, s5 or ood.")] = TRANSFER,
    multi_task: Annotated[
        str, typer.Option(metavar="STRATEGY", help="If controls of several are there.")
    ] = "",
    model: Annotated[str, typer.Option(help="If runs of several models are there.")] = "",
    split: Annotated[str, typer.Option(help="If the runs report several, such as test.")] = "",
    study: Annotated[str, typer.Option(help="All comparisons of a study of params/study/ together.")] = "",
    as_they_stand: Annotated[
        bool, typer.Option("--as-they-stand", help="Score unfinished runs instead of refusing.")
    ] = False,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = Path("reports/verdict.json"),
) -> None:
    """Say per task and overall whether multi-task runs beat their token-controlled baselines.

    With --study, say it for all models and strategies of a study at one error rate; with --question, answer
    another one. Exit code 2 where no finished run is there.
    """
    from kaggle_kit.analysis.survivorship import unfinished_in_words
    from kaggle_kit.analysis.verdict import verdict, write_verdict
    from kaggle_kit.analysis.verdict_words import gains_in_words, in_words, training_in_words
    from kaggle_kit.core.folders import find_runs

    found = find_runs(runs)
    if study:
        if multi_task or model or question != TRANSFER:
            raise ConfigError(
                f"--study {study} judges all its comparisons; leave out --multi-task, --model and --question"
            )
        _judge_study((study, changes or ()), found, {"split": split, "as_they_stand": as_they_stand}, out)
        return
    if changes:
        raise ConfigError(f"{' '.join(changes)} changes a study; name it by --study, or leave it out")
    if question != TRANSFER:
        if multi_task:
            raise ConfigError(
                f"--multi-task {multi_task} chooses baselines; leave it out with --question {question}"
            )
        _contrast(question, found, {"model": model, "split": split, "as_they_stand": as_they_stand}, out)
        return
    document = verdict(found, strategy=multi_task, model=model, split=split, as_they_stand=as_they_stand)
    words = (in_words, gains_in_words, training_in_words, unfinished_in_words)
    _say(sentence for say in words for sentence in say(document))
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


def _judge_study(
    study: tuple[str, Sequence[str]], runs: Sequence[RunFolder], chosen: Mapping[str, Any], out: Path
) -> None:
    from kaggle_kit.analysis.verdict import judged, write_verdict
    from kaggle_kit.analysis.verdict_study import study_in_words, study_verdict
    from kaggle_kit.study.family import comparisons, family_of
    from kaggle_kit.study.spec import load_selection

    selection = load_selection(*study)
    declared, found = family_of(selection), {run.run_id: run for run in runs}
    documents = {}
    for pair, of in comparisons(selection).items():
        if there := [found[id] for id in of["runs"] if id in found]:
            documents[pair] = judged(there, strategy=of["strategy"], model=of["model"], **chosen)
    document = study_verdict(documents, declared)
    _say(study_in_words(document))
    typer.echo(f"verdict: {write_verdict(document, out)}")


def _say(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        typer.echo(sentence)
