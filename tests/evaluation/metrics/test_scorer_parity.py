"""Every open case of the official scorers, to the precision that the official program prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kaggle_kit.evaluation.metrics import score_cases

CASES = Path(__file__).resolve().parents[4] / "shared" / "scorer_cases"
FIGURES = {  # scorer -> figures with a printed value; 20 cases each
    "semeval2014t7": 160,
    "semeval2015t14": 724,
    "semeval2016t12": 594,
    "semeval2017t3": 140,
    "brat": 120,
    "measeval": 460,
}


def _expected(scorer: str) -> dict[str, dict]:
    files = sorted((CASES / scorer).glob("*/expected.json"))
    return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in files}


@pytest.mark.parametrize("scorer", FIGURES)
def test_every_printed_figure_of_the_official_scorer_is_reproduced(scorer: str):
    if not CASES.is_dir():
        pytest.skip("no real data")
    figures, compared, wrong = score_cases(scorer, CASES / scorer), 0, []
    expected = _expected(scorer)
    for case, official in expected.items():
        for metric, printed in official["metrics"].items():
            if printed is None:
                continue
            decimals = official.get("precision_of", {}).get(metric, official["precision"])
            compared += 1
            if abs(figures[case].get(metric, float("nan")) - printed) <= 0.5 * 10**-decimals * (1 + 1e-6):
                continue
            wrong.append((case, metric, printed, figures[case].get(metric)))
    assert wrong == []
    assert (len(expected), compared) == (20, FIGURES[scorer])
