"""The development curve: at fixed shares of the tokens, without a trace in the training, through a resume."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.integrity import FACTS
from kaggle_kit.experiment.manifest import final_loss, optimisation
from kaggle_kit.experiment.show.counts import optimisation_table
from kaggle_kit.training.callbacks.base import StudyCallback
from kaggle_kit.training.callbacks.development import SHARES, DevelopmentCallback, best_point
from tests.signing import sign
from tests.training.test_resume import Death, DieAt, Run

NER = "semeval2014t7"


class Weights(StudyCallback):
    """The trained parameters after every step."""

    def __init__(self) -> None:
        self.after: dict[int, dict[str, torch.Tensor]] = {}

    def on_step_end(self, args, state, control, model=None, **kwargs) -> None:
        named = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
        self.after[state.global_step] = named


def peaked(curve_of: DevelopmentCallback, best: float = 0.5):
    """Scores that are highest where `best` of the tokens are seen, drawing random numbers on the way."""

    def evaluate() -> dict[str, float]:
        torch.rand(3)
        seen = sum(curve_of.trainer.tokens.total.values()) / curve_of.budget
        return {f"{NER}.f1": 1 - abs(seen - best), "selection": 1 - abs(seen - best)}

    return evaluate


def curve_of(budget: int, **more) -> DevelopmentCallback:
    curve = DevelopmentCallback(dict, "selection", budget=budget, **more)
    curve.evaluate = peaked(curve)
    return curve


def trained(study, folder, *extra, curve: DevelopmentCallback | None = None) -> Run:
    run = Run(study, folder, tasks=(NER,)).open(*extra, curve=curve)
    run.train()
    return run


def tokens_of(study) -> int:
    return sum(study.plan(NER, effective_batch=4).tokens.values())


def test_points_lie_after_the_first_step_that_reaches_their_share(study, tmp_path):
    budget = tokens_of(study)
    curve = curve_of(budget)
    run = trained(study, tmp_path / "run", curve=curve)
    ends = np.cumsum([step.tokens[NER] for step in run.plan.steps])
    assert [point["share"] for point in curve.curve] == list(SHARES)
    for point in curve.curve:
        step = int(np.argmax(ends >= math.ceil(round(point["share"] * budget, 6)))) + 1
        assert (point["step"], point["tokens"]) == (step, ends[step - 1])
        assert point["scores"] == {NER: point["score"]}
    assert curve.curve[-1]["tokens"] == budget


def test_the_curve_changes_neither_weights_nor_random_states(study, tmp_path):
    watched, alone = Weights(), Weights()
    curve = curve_of(tokens_of(study), keeps_best=True)
    trained(study, tmp_path / "watched", watched, curve=curve)
    trained(study, tmp_path / "alone", alone)
    assert watched.after.keys() == alone.after.keys()
    for step, named in alone.after.items():
        assert all(torch.equal(value, watched.after[step][name]) for name, value in named.items())


def test_the_weights_of_the_best_point_are_kept_and_put_back_for_as_long_as_they_are_scored(study, tmp_path):
    weights, curve = Weights(), curve_of(tokens_of(study), keeps_best=True)
    run = trained(study, tmp_path / "run", weights, curve=curve)
    best = best_point(curve.curve)
    assert best["share"] == pytest.approx(0.5, abs=0.11) and best["step"] == curve.best_step
    parameters = dict(run.trainer.model.named_parameters())
    with curve.at_best():
        assert all(torch.equal(parameters[n], value) for n, value in weights.after[best["step"]].items())
    last = weights.after[len(run.plan)]
    assert all(torch.equal(parameters[name], value) for name, value in last.items())


@pytest.mark.parametrize("death", [2, 7, 9])
def test_an_interrupted_run_has_the_same_curve_and_best_weights(study, tmp_path, death):
    whole = curve_of(tokens_of(study), keeps_best=True)
    run = trained(study, tmp_path / "whole", curve=whole)
    other = Run(study, tmp_path / "cut", tasks=(NER,))
    with pytest.raises(Death):
        other.open(DieAt(death), curve=curve_of(tokens_of(study), keeps_best=True)).train()
    again = curve_of(tokens_of(study), keeps_best=True)
    other.open(curve=again).train()
    assert again.curve == whole.curve and again.best_step == whole.best_step
    assert all(torch.equal(again.best_weights[n], value) for n, value in whole.best_weights.items())
    for one, two in zip(run.folder.events(), other.folder.events(), strict=True):
        assert one["losses"] == two["losses"] and one.get("development") == two.get("development")
    resumed = curve_of(tokens_of(study), keeps_best=True)
    other.open(curve=resumed).train()  # after the end: restored, not trained again
    assert resumed.curve == whole.curve
    assert all(torch.equal(resumed.best_weights[n], value) for n, value in whole.best_weights.items())


def test_two_phases_share_one_curve(study, tmp_path):
    budget = 2 * tokens_of(study)
    first, second = curve_of(budget), curve_of(budget, begun=tokens_of(study))
    before = trained(study, tmp_path / "first", curve=first)
    run = Run(study, tmp_path / "second", tasks=(NER,)).open(curve=second)
    run.trainer.tokens.load_state_dict(before.trainer.tokens.state_dict())
    run.train()
    assert [point["share"] for point in (*first.curve, *second.curve)] == list(SHARES)
    assert second.curve[-1]["tokens"] == budget and second.curve[-1]["step"] == 2 * len(run.plan)


def test_a_quick_evaluation_after_the_same_step_serves_the_curve(study, tmp_path):
    asked: list[int] = []
    curve = curve_of(tokens_of(study))
    scores, step = [0.1 * n for n in range(9)], peaked(curve)
    curve.evaluate = lambda: asked.append(curve.trainer.state.global_step) or step()
    run = Run(study, tmp_path / "run", tasks=(NER,)).open(quick_scores=scores, curve=curve)
    run.quick.metric, run.quick.evaluate = "selection", step
    run.quick.patience = 99
    run.train()
    due = {point["step"] for point in curve.curve}
    assert set(asked) == {number for number in due if number % 2 and number != len(run.plan)}


# --- what the manifest says --------------------------------------------------------------------------


def test_the_best_point_is_the_first_of_the_highest():
    scores = (0.1, 0.4, 0.4, 0.2)
    curve = [
        {"share": n, "step": n, "tokens": n, "score": score, "scores": {}} for n, score in enumerate(scores)
    ]
    assert best_point(curve) == {"share": 1, "step": 1, "tokens": 1, "score": 0.4}
    assert best_point([]) is None


def test_the_final_loss_is_the_mean_of_the_last_twentieth_of_the_steps():
    events = [{"losses": {"a": float(n)}} for n in range(40)]
    assert final_loss(events) == {"a": 38.5}
    assert final_loss(events[:5]) == {"a": 4.0}
    rare = [{"losses": {"b": 7.0}}, *events]  # a task that the last steps do not hold
    assert final_loss(rare) == {"a": 38.0, "b": 7.0}


def test_a_run_records_steps_passes_losses_and_curve(study, tmp_path):
    curve = curve_of(tokens_of(study))
    run = trained(study, tmp_path / "run", curve=curve)
    told = optimisation(run.folder, [run.trainer])
    assert told["optimiser_steps"] == len(run.plan) == len(run.folder.events())
    assert told["epochs_over_own_data"] == {NER: 1.0}
    assert told["final_training_loss"] == {NER: run.folder.events()[-1]["losses"][NER]}
    assert told["development"] == curve.curve and told["best_development"] == best_point(curve.curve)
    totals = {"totals": {"tokens": {NER: tokens_of(study)}}}
    facts = {name: kind() for name, kind in FACTS.items()} | {"complete": True, **told, **totals}
    sign(run.folder, facts)
    (row,) = optimisation_table({"one": RunFolder.open(run.folder.path)})
    assert (row["run"], row["task"], row["tokens"]) == ("one", NER, tokens_of(study))
    assert (row["steps"], row["epochs over its data"]) == (len(run.plan), 1.0)
    assert row["dev, last point"] == curve.curve[-1]["scores"][NER]
    assert row["dev, best point"] == max(point["scores"][NER] for point in curve.curve)
