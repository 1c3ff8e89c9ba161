"""Official scores by name: one module per official scorer, each `score(gold, pred) -> figures`.

    score("semeval2014t7", Path("gold"), Path("predictions"))["task_a_strict_f1"]
    score_cases("brat", Path("cases"))["s000_perfect"]["entity_f1"]

Figures are unrounded floats; a figure that the scorer does not give is left out. Some tasks share a
scorer, so task ids that have none of their own name may be used as well.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from kaggle_kit.core.errors import ScoreError, unknown
from kaggle_kit.core.schema import FILES_OF
from kaggle_kit.data.formats.base import leftover

SCORERS = tuple(FILES_OF)
TASKS = {
    "semeval2021t6": "brat",
    "ddi2013": "brat",
    "maccrobat_temporal": "brat",
    "measeval2021t8": "measeval",
    "ncbi_disease": "pubtator",
    "bc5cdr": "pubtator",
}


def score(name: str, gold: Path, pred: Path) -> dict[str, float]:
    """Return every figure of the scorer (or of a task's scorer) for two folders in the official format.

    Raises ConfigError for an unknown name, ScoreError for a missing folder and where the official
    program would stop.
    """
    module = scorer_of(name)
    for folder in (gold, pred):
        if not folder.exists():
            raise ScoreError(f"{folder}: found nothing there; expected the {name} files to score")
    return module.score(gold, pred)


def documents(name: str, gold: Path, pred: Path, metric: str) -> dict[str, dict[str, float]] | None:
    """Return each document's part in one figure of the scorer; None where that figure has no such parts.

    `tp`, `fp` and `fn` of an F1 (and `found`, where recall counts other hits than precision), or the
    `value`, and its `weight` if not 1, of a mean. `evaluation.documents.figure` puts them together again.
    """
    return scorer_of(name).documents(gold, pred, metric)


def scorer_of(name: str) -> ModuleType:
    """Return the scorer of that name, or of the task of that name. ConfigError for an unknown one."""
    scorer = TASKS.get(name, name)
    if scorer not in SCORERS:
        raise unknown("scorer", name, [*SCORERS, *TASKS])
    return import_module(f"{__name__}.{scorer}")


def score_cases(name: str, folder: Path) -> dict[str, dict[str, float]]:
    """Return case name -> figures, for the folders directly below `folder` that hold `gold/` and `pred/`."""
    if not folder.is_dir():
        raise ScoreError(f"{folder}: found no such folder; expected <case>/gold and <case>/pred below it")
    named = (case for case in sorted(folder.iterdir()) if not leftover(Path(case.name)))
    cases = [case for case in named if (case / "gold").is_dir() and (case / "pred").is_dir()]
    if not cases:
        raise ScoreError(f"{folder}: found no case in it; expected <case>/gold and <case>/pred below it")
    return {case.name: score(name, case / "gold", case / "pred") for case in cases}
