"""Every strategy learns a small practice set by heart, in its own phases, scored by the official rules."""

from __future__ import annotations

import pytest

from kaggle_kit.core.config import compose
from kaggle_kit.core.runs import start_run
from kaggle_kit.experiment import preparation, scoring, training_session
from tests.experiment.test_rounds import NER, RANKING, Page, small_models  # noqa: F401

SPANS, RELATIONS = "semeval2015t14", "semeval2021t6"
# one mention in ten lies in pieces, which no tag per word can say, and relations of such a mention are lost
LEARNT = {SPANS: 0.95, RELATIONS: 0.8, NER: 0.85, RANKING: 0.95}
SETTINGS = (
    "practice.documents=3",
    "practice.terms=10",
    "training.learning_rate=3e-3",
    "training.epochs=60",
    "training.selection=last",
    "training.quick_every=1000000",
    "model.lora.dropout=0",
)


@pytest.fixture(scope="module", autouse=True)
def no_gate():
    """The gate has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_session, "pass_gate", lambda *_: "")
        yield


def phases(page: Page) -> list[training_session.Phase]:
    if page.config.strategy.kind != "sequential":
        return [training_session.Phase(page.plan)]
    first, second = (
        preparation.plan_training(page.config, page.encoded, part) for part in preparation.HALVES
    )
    return [
        training_session.Phase(first, name="shared", prepare=page.model.pretrain_shared),
        training_session.Phase(second, name="own", prepare=page.model.adapt),
    ]


@pytest.mark.parametrize(
    ("strategy", "tasks"),
    [
        ("s1_single", [NER]),
        ("s1_single", [RANKING]),
        ("s2_shared", [NER, RANKING]),
        ("s3a_flat", [NER, RANKING]),
        ("s3b_hierarchical", [NER, RANKING]),
        ("s4_sequential", [NER, RANKING]),
        ("s5_qlora", [NER, RANKING]),
        ("s3b_hierarchical", [SPANS, RELATIONS]),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_a_strategy_learns_a_small_practice_set_by_heart(tmp_path, strategy, tasks):
    config = compose(task=tasks, strategy=strategy, overrides=list(SETTINGS), seed=1)
    page = Page(config, start_run(config, page="toy", runs_dir=tmp_path))
    page.phases = phases(page)
    page.train()
    found = scoring.evaluate_split(page, page.run, "train")
    scores = {m.task: m.value for m in found if m.name == config.tasks[m.task].primary_metric}
    assert scores.keys() == set(tasks)
    assert all(score >= LEARNT[task] for task, score in scores.items()), scores
