"""A run over several sessions: paused in order, marked, taken up again, and the same in the end."""

from __future__ import annotations

import json

import pytest
import torch

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.kaggle_outputs import last_step
from kaggle_kit.core.runs import start_run
from kaggle_kit.experiment import preparation, training_session
from kaggle_kit.training.session import LIMIT_VARIABLE
from tests.experiment.test_rounds import NER, RANKING, Page, config_of, small_models  # noqa: F401

LEARNS = ("training.learning_rate=1e-2", "training.epochs=1")


def session_of(study: Page, phases) -> training_session.Session:
    study.phases = phases
    return study.train()


def opened(tmp_path, strategy: str, *tasks: str) -> Page:
    config = config_of(strategy, *tasks, more=LEARNS)
    return Page(config, start_run(config, page="toy", run_dir=tmp_path / strategy))


def two_phases(study: Page) -> list[training_session.Phase]:
    def adapt():
        study.model.adapt(study.config.strategy.adapt_shared)

    first = training_session.Phase(study.plan, name="shared", prepare=study.model.pretrain_shared)
    return [first, training_session.Phase(study.plan, name="own", prepare=adapt)]


@pytest.fixture
def no_time(monkeypatch):
    """Every session's limit passes within its first step."""
    monkeypatch.setenv(LIMIT_VARIABLE, "1e-9")


def test_a_session_that_ends_first_leaves_a_paused_run_that_the_next_one_finishes(
    tmp_path, no_time, monkeypatch
):
    study = opened(tmp_path, "s1_single", NER)
    session = session_of(study, [training_session.Phase(study.plan)])
    note = study.run.paused()
    assert not session.finished and session.end.step == 1
    facts = {"phase": "training", "step": 1, "steps": len(study.plan), "saved_step": 1}
    assert facts.items() <= note.items()
    assert note["reason"] == "the session's limit of 1e-09 h" and "--resume" in note["message"]
    assert note["message"] in str(session) and "smoke gate open" in str(session)
    assert last_step(study.run.path) == 1

    monkeypatch.delenv(LIMIT_VARIABLE)
    monkeypatch.setattr(training_session, "smoke_gate", None)  # passed, and not asked again
    again = opened(tmp_path, "s1_single", NER)
    session = session_of(again, [training_session.Phase(again.plan)])
    assert session.finished and session.end.resumed_from == 1
    assert session.tokens == again.plan.tokens
    assert "passed in an earlier session" in str(session)
    assert again.run.paused() is None and len(again.run.events()) == len(again.plan)
    assert again.record(session.trainers[-1])["complete"]


def test_a_run_of_two_phases_goes_on_in_the_phase_that_its_session_ended_in(tmp_path, monkeypatch):
    whole = opened(tmp_path / "whole", "s4_sequential", NER, RANKING)
    monkeypatch.setattr(training_session, "pass_gate", lambda *_: "")
    session_of(whole, two_phases(whole))

    ended, steps = [], 2 * len(whole.plan)
    stops = iter([3, len(whole.plan) + 2, steps])  # in the first phase, in the second, and never
    while not ended or not ended[-1].finished:
        study, stop = opened(tmp_path, "s4_sequential", NER, RANKING), next(stops)
        monkeypatch.setattr(
            training_session.CheckpointCallback,
            "_reason",
            lambda keeper, stop=stop: "a test" if keeper.trainer.tokens.step == stop else None,
        )
        ended.append(session_of(study, two_phases(study)))
    assert [(len(one.trainers), one.end.step) for one in ended] == [(1, 3), (2, 2), (2, len(whole.plan))]
    assert [event["step"] for event in study.run.events()] == list(range(1, steps + 1))
    pairs = zip(whole.model.parameters(), study.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert last_step(study.run.path) == steps


def test_a_closed_gate_is_asked_again_and_nothing_is_trained(tmp_path, monkeypatch):
    study = opened(tmp_path, "s1_single", NER)
    monkeypatch.setattr("kaggle_kit.training.smoke.MAX_SKIPPED_SHARE", -1.0)  # no gate opens
    for _ in range(2):
        with pytest.raises(Exception, match="smoke test failed: .*Loss by step: "):
            session_of(study, [training_session.Phase(study.plan)])
    assert not study.run.gate_json.exists() and study.run.events() == []


def test_a_paused_folder_says_so_in_one_readable_file(tmp_path):
    run = RunFolder.create(tmp_path / "run", "a: 1\n", "0123", {})
    assert run.paused() is None
    run.pause(step=400, message="paused at step 400")
    kept = json.loads(run.paused_json.read_text())
    assert (kept["step"], kept["message"]) == (400, "paused at step 400") and kept["paused"].endswith(
        "+00:00"
    )
    run.go_on()
    assert run.paused() is None


def unlearnt(study: Page, *phases: training_session.Phase) -> set[str]:
    """The groups that the error names; none where there is no error."""
    try:
        training_session.assert_everything_learns(study.model, phases)
    except ConfigError as error:
        return {line.partition(", which")[0] for line in str(error).splitlines()}
    return set()


def plan_for(study: Page, *tasks: str):
    return preparation.plan_training(study.config, {task: study.encoded[task] for task in tasks})


@pytest.mark.parametrize("strategy", ["a2", "s3a_flat", "s3b_hierarchical"])
def test_a_run_in_which_an_adapter_would_learn_nothing_stops_before_training(tmp_path, strategy):
    study = opened(tmp_path, strategy, NER, RANKING)
    model, whole = study.model, plan_for(study, NER, RANKING)
    assert unlearnt(study, training_session.Phase(whole)) == set()
    missing = {
        "a2": {f"private:{RANKING}", f"heads:{RANKING}"},
        "s3a_flat": {f"private:{RANKING}", f"fusion:{RANKING}", f"heads:{RANKING}"},
        "s3b_hierarchical": {"level2", "cross_level", f"heads:{RANKING}"},
    }[strategy]
    only = training_session.Phase(plan_for(study, NER))
    assert unlearnt(study, only) == missing
    assert (
        unlearnt(study, only, training_session.Phase(plan_for(study, RANKING))) == set()
    )  # learns in phase two
    heads = [f"heads:{task}" for task in (NER, RANKING)]
    frozen = training_session.Phase(whole, prepare=lambda: model.train_only(heads))
    assert unlearnt(study, frozen) == model.parameter_groups().keys() - set(heads)
    with pytest.raises(ConfigError, match=rf"heads:{RANKING}, which {RANKING} would train, gets no gradient"):
        session_of(study, [only])
    assert study.run.events() == [] and not study.run.gate_json.is_file()


def test_a_detached_level_1_learns_nothing_from_level_2_tasks(tmp_path):
    config = config_of("s3b_hierarchical", NER, RANKING, more=(*LEARNS, "strategy.detach_l1_for_l2=true"))
    study = Page(config, start_run(config, page="toy", run_dir=tmp_path / "run"))
    assert unlearnt(study, training_session.Phase(plan_for(study, RANKING))) == {"level1", f"heads:{NER}"}
    attached = opened(tmp_path, "s3b_hierarchical", NER, RANKING)
    assert unlearnt(attached, training_session.Phase(plan_for(attached, RANKING))) == {f"heads:{NER}"}
