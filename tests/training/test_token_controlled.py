"""A single-task run trains its multi-task twin's tokens, to the token, or does not start."""

from __future__ import annotations

import pytest

from kaggle_kit.batches.batch import PlanDataset
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.training.trainer import TokenControlledTrainer

NER, RANKING = "semeval2014t7", "semeval2017t3"


def controlled(study, plan, folder, target: int, task: str = NER) -> TokenControlledTrainer:
    model = study.model(task)
    arguments = study.trainer(model, plan, folder).args
    steps = PlanDataset(plan, study.encoded)
    return TokenControlledTrainer(model, steps, arguments, target_tokens=target, task=task)


def own_tokens(study, task: str) -> int:
    return int(study.encoded[task].lengths.sum())


@pytest.mark.parametrize("task", [NER, RANKING])
def test_the_twin_of_a_two_task_run_trains_as_many_tokens_of_one_task(study, tmp_path, task):
    target = sum(study.plan(NER, RANKING).tokens.values())
    assert target == own_tokens(study, NER) + own_tokens(study, RANKING)
    trainer = controlled(study, study.plan(task, target_tokens=target), tmp_path, target, task)
    assert trainer.parity_error == -target
    trainer.train()
    assert trainer.tokens.total == {task: target}
    assert trainer.parity_error == 0


def test_a_target_below_one_pass_cuts_the_last_sequence_and_is_met(study, tmp_path):
    target = own_tokens(study, NER) // 3 + 1
    plan = study.plan(NER, target_tokens=target, effective_batch=4)
    trainer = controlled(study, plan, tmp_path, target)
    trainer.train()
    assert trainer.parity_error == 0
    assert trainer.state.global_step == len(plan)


@pytest.mark.parametrize("offset", range(6))
def test_any_target_is_planned_to_the_token_and_only_the_last_sequence_is_cut(study, offset):
    target = own_tokens(study, NER) + offset
    plan = study.plan(NER, target_tokens=target, token_budget=128)
    assert plan.tokens == {NER: target}
    batches = [batch for step in plan.steps for batch in step.micro_batches]
    lengths = study.encoded[NER].lengths
    assert all(batch.cut == 0 for batch in batches[:-1])
    assert batches[-1].cut < lengths[batches[-1].rows[-1]]
    assert sum(lengths[list(batch.rows)].sum() for batch in batches) - batches[-1].cut == target


def test_the_cut_batch_holds_the_planned_tokens(study):
    plan = study.plan(NER, target_tokens=own_tokens(study, NER) + 1)
    steps = PlanDataset(plan, study.encoded)
    assert plan.steps[-1].micro_batches[-1].cut > 0
    for number, planned in enumerate(plan.steps):
        assert sum(batch.tokens for batch in steps[number].micro_batches) == sum(planned.tokens.values())


def test_a_plan_with_other_tokens_is_refused_with_both_numbers(study, tmp_path):
    plan = study.plan(NER, target_tokens=100)
    with pytest.raises(ConfigError, match=rf"trains {{'{NER}': 100}}, not {{'{NER}': 101}}; plan it with"):
        controlled(study, plan, tmp_path, 101)


def test_a_plan_of_another_task_is_refused(study, tmp_path):
    plan = study.plan(RANKING, target_tokens=100)
    steps = PlanDataset(plan, study.encoded)
    arguments = study.trainer(study.model(RANKING), plan, tmp_path).args
    with pytest.raises(ConfigError, match=rf"trains {{'{RANKING}': 100}}, not {{'{NER}': 100}}"):
        TokenControlledTrainer(study.model(NER), steps, arguments, target_tokens=100, task=NER)


def test_a_plan_of_two_tasks_is_refused(study, tmp_path):
    plan = study.plan(NER, RANKING, target_tokens=100)
    assert sum(plan.tokens.values()) == 100
    with pytest.raises(ConfigError, match=rf"not {{'{NER}': 100}}; plan it with"):
        controlled(study, plan, tmp_path, 100)
