"""`python -m kaggle_kit verdict`: judge finished runs against their counterparts.

python -m kaggle_kit verdict --runs runs --multi-task s3b_hierarchical --out reports/verdict.json
python -m kaggle_kit verdict --study full --out reports/full.study.json
python -m kaggle_kit verdict --question ablation --runs runs --out reports/ablation.json
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from kaggle_kit.cli.options import RUNS, Changes, RunsDir
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import ConfigError

TRANSFER = "transfer"  # the question of the token-controlled baselines


def judge_runs(
    changes: Changes = None,
    runs: RunsDir = RUNS,
    question: Annotated[str, typer.Option(help="transfer, ablation, mimic_exclusion, s5 or ood.")] = TRANSFER,
    multi_task: Annotated[str, typer.Option(help="The strategy, if controls of several are there.")] = "",
    model: Annotated[str, typer.Option(help="If runs of several models are there.")] = "",
    task: Annotated[str, typer.Option(help="If runs of several sets of tasks are there.")] = "",
    split: Annotated[str, typer.Option(help="If the runs report several, such as test.")] = "",
    study: Annotated[str, typer.Option(help="All comparisons of a study of params/study/ together.")] = "",
    as_they_stand: Annotated[bool, typer.Option("--as-they-stand", help="Score unfinished runs.")] = False,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = Path("reports/verdict.json"),
) -> None:
    """Say per task and overall whether multi-task runs beat their token-controlled baselines.

    With --study, say it for all models and strategies of a study, run with the same [KEY=VALUE]..., at one
    error rate; with --question, answer another one. Exit code 2 where no finished run is there.
    """
    from kaggle_kit.analysis import contrasts, survivorship, verdict_words
    from kaggle_kit.analysis.verdict import verdict, write_verdict
    from kaggle_kit.analysis.verdict_study import study_in_words
    from kaggle_kit.core.artifacts import find_runs

    if changes and not study:
        raise ConfigError(f"{' '.join(changes)} changes a study; name it by --study, or leave it out")
    if study and (multi_task or model or task or question != TRANSFER):
        others = "--multi-task, --model, --task, --question"
        raise ConfigError(f"--study {study} judges all its comparisons; leave out {others}")
    if (multi_task or task) and question != TRANSFER:
        raise ConfigError(
            f"--multi-task and --task choose baselines; leave them out of --question {question}"
        )
    found = find_runs(runs)
    document: Any
    if study:
        document = _study_verdict(study, changes or (), found, split, as_they_stand)
        sentences = list(study_in_words(document))
    elif question == TRANSFER:
        choice = {"strategy": multi_task, "model": model, "split": split, "tasks": task}
        document = verdict(found, **choice, as_they_stand=as_they_stand)
        words = (verdict_words.in_words, verdict_words.gains_in_words, verdict_words.training_in_words)
        sentences = [said for say in (*words, survivorship.unfinished_in_words) for said in say(document)]
    elif document := contrasts.contrasts(
        question, found, model=model, split=split, as_they_stand=as_they_stand
    ):
        sentences = list(contrasts.in_words(document))
    else:
        then = "run its page first, or name another folder by --runs"
        raise ConfigError(f"no finished runs of {question} among the {len(found)} there; {then}")
    typer.echo("\n".join(sentences))
    typer.echo(f"verdict: {write_verdict(document, out)}")


def _study_verdict(
    study: str, changes: Sequence[str], runs: Sequence[RunFolder], split: str, as_they_stand: bool
) -> Mapping[str, Any]:
    from kaggle_kit.analysis.verdict import verdict_or_refusal
    from kaggle_kit.analysis.verdict_study import study_verdict
    from kaggle_kit.study.graph import Study
    from kaggle_kit.study.spec import load_selection

    declared, found = Study(load_selection(study, changes)), {run.run_id: run for run in runs}
    documents = {}
    for pair, of in declared.verdicts().items():
        if there := [found[id] for id in of["runs"] if id in found]:
            names = {"strategy": of["strategy"], "model": of["model"]}
            documents[pair] = verdict_or_refusal(there, **names, split=split, as_they_stand=as_they_stand)
    return study_verdict(documents, declared.family())
