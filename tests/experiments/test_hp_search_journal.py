"""The search: a planted optimum, pruning that counts, an equal budget, and an interruption without trace."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.experiments.hp_search_journal import (
    Attempt,
    Pruned,
    Search,
    SearchSettings,
    overrides,
    search_settings,
    settings_by_arm,
    space_rows,
)

RATE, RANK = "training.learning_rate", "strategy.rank"
SPACE = {RATE: [1e-5, 1.5e-5, 2e-5, 3e-5, 4e-5, 5e-5, 7e-5, 1e-4], RANK: [8, 16, 32]}
TOY = SearchSettings(SPACE, trials=30, random_trials=8)


def toy(attempt: Attempt) -> float:
    """Best at 3e-5 and rank 16, where it is 1; three reports climb to it."""
    far = abs(math.log10(attempt.values[RATE] / 3e-5)) + 0.5 * (attempt.values[RANK] != 16)
    for point in (1, 2, 3):
        attempt.report(point, (1 - far) * point / 3)
    return 1 - far


class Interrupted(Exception):
    pass


def interrupted_at(trial: int, reports: float | None = None):
    """The toy, ended in the middle of one trial as a session's end would, maybe after a first report."""

    def objective(attempt: Attempt) -> float:
        if attempt.number == trial:
            if reports is not None:
                attempt.report(1, reports)
            raise Interrupted
        return toy(attempt)

    return objective


def test_the_planted_optimum_is_found(tmp_path):
    search = Search(TOY, tmp_path, seed=1)
    search.run(toy)
    best = search.best()
    assert best["values"][RANK] == 16
    assert best["values"][RATE] == pytest.approx(3e-5, rel=0.25)


def test_pruned_trials_use_up_the_budget_and_have_no_score(tmp_path):
    search = Search(TOY, tmp_path, seed=1)
    search.run(toy)
    records = search.records()
    pruned = [record for record in records if record["state"] == "pruned"]
    assert len(records) == TOY.trials and 0 < len(pruned) < TOY.trials - TOY.random_trials
    assert all(record["score"] is None and len(record["reports"]) < 3 for record in pruned)
    assert "behind the median" in pruned[0]["pruned"]
    assert search.best()["score"] == max(r["score"] for r in records if r["score"] is not None)


def test_a_trial_that_is_given_up_by_the_objective_counts_and_is_never_best(tmp_path):
    def diverges(attempt: Attempt) -> float:
        raise Pruned("the loss is nan")

    search = Search(replace(TOY, trials=2), tmp_path, seed=1)
    search.run(diverges)
    assert [record["pruned"] for record in search.records()] == ["the loss is nan"] * 2
    with pytest.raises(ConfigError, match="none of 2 trials ran to its end"):
        search.best()


def test_a_search_that_is_done_tries_nothing_more(tmp_path):
    settings = replace(TOY, trials=4)
    Search(settings, tmp_path, seed=1).run(toy)
    tried: list[Attempt] = []
    search = Search(settings, tmp_path, seed=1)
    search.run(tried.append)
    assert tried == [] and len(search.records()) == 4


@pytest.mark.parametrize("trial", [0, 3, 9])
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(tmp_path, trial):
    folders = [tmp_path / name for name in ("whole", "interrupted")]
    for folder in folders:
        folder.mkdir()
    settings = replace(TOY, trials=12)
    whole = Search(settings, folders[0], seed=1)
    whole.run(toy)
    with pytest.raises(Interrupted):
        Search(settings, folders[1], seed=1).run(interrupted_at(trial))
    tried: list[int] = []
    again = Search(settings, folders[1], seed=1)
    assert len(again.counted()) == trial

    def objective(attempt: Attempt) -> float:
        tried.append(attempt.number)
        return toy(attempt)

    again.run(objective)
    assert tried == [record["trial"] for record in again.records()[trial:] if "repeats" not in record]
    values = [[record["values"] for record in search.records()] for search in (whole, again)]
    assert values[0] == values[1]


def test_a_trial_that_goes_on_keeps_what_it_had_reported(tmp_path):
    settings = replace(TOY, trials=3)
    with pytest.raises(Interrupted):
        Search(settings, tmp_path, seed=1).run(interrupted_at(1, reports=0.0))
    search = Search(settings, tmp_path, seed=1)
    search.run(toy)
    assert search.records()[1]["reports"][0] == (1, 0.0)  # and not what the toy says there


@pytest.mark.parametrize("trial", [0, 2])
def test_reduced_configurations_are_each_tried_once_and_in_order_even_when_interrupted(tmp_path, trial):
    reduced = tuple({RATE: rate, RANK: 16} for rate in (1e-5, 2e-5, 4e-5, 1e-4))
    settings = SearchSettings(SPACE, trials=4, reduced=reduced)
    with pytest.raises(Interrupted):
        Search(settings, tmp_path, seed=1).run(interrupted_at(trial))
    search = Search(settings, tmp_path, seed=1)
    search.run(toy)
    assert [record["values"] for record in search.records()] == list(reduced)


def test_values_that_have_a_score_already_count_and_are_not_trained_again(tmp_path):
    reduced = ({RATE: 2e-5, RANK: 16}, {RATE: 4e-5, RANK: 16}, {RATE: 2e-5, RANK: 16})
    tried: list[int] = []

    def objective(attempt: Attempt) -> float:
        tried.append(attempt.number)
        attempt.note(trainable_parameters=7, device="cpu", tokens={"a": 5}, seconds=2.0)
        return toy(attempt)

    search = Search(SearchSettings(SPACE, trials=3, reduced=reduced), tmp_path, seed=1)
    search.run(objective)
    first, _, again = search.records()
    assert tried == [0, 1] and search.finished
    assert again["score"] == first["score"] and again["repeats"] == 0
    assert (again["tokens"], again["seconds"], again["trainable_parameters"]) == ({}, 0.0, 7)


# --- what is declared ------------------------------------------------------------------------------


def declared(*tasks: str, model: str = "llama8b", more: tuple[str, ...] = ()):
    strategy = "s1_single" if len(tasks) == 1 else "s2_shared"
    return compose(
        model=model, task=tasks, strategy=strategy, overrides=["experiment=hp_search", *more], seed=1
    )


def test_both_arms_get_the_declared_space_and_the_same_number_of_trials():
    single = search_settings(declared("semeval2014t7"))
    several = search_settings(declared("semeval2014t7", "semeval2017t3"))
    assert single.trials == several.trials and not single.reduced
    assert several.space.keys() - single.space.keys() == {
        "strategy.sampling",
        "strategy.temperature",
        "strategy.loss_weighting",
    }
    choices = {key: tuple(choices) for key, choices in several.space.items()}
    assert choices[RATE] == (1e-5, 2e-5, 5e-5, 1e-4)
    assert choices[RANK] == (8, 16, 32)
    assert choices["training.effective_batch"] == (16, 32)
    assert choices["training.epochs"] == (3, 5)
    assert choices["training.warmup"] == (0.05, 0.1)
    assert choices["strategy.temperature"] == (1, 2, 5)


def test_what_a_baselines_tokens_and_parity_settle_is_not_searched_for_it():
    plain = declared("semeval2014t7")
    with_tokens = declared("semeval2014t7", more=("training.target_tokens=900",))
    assert plain.training.target_tokens is None
    gone = search_settings(plain).space.keys() - search_settings(with_tokens).space.keys()
    assert gone == {"training.epochs"}
    with_tokens.experiment |= {"twin": "RUN", "twin_config": "0f"}
    assert search_settings(with_tokens).space.keys() == {RATE, "training.warmup"}
    reduced = declared("semeval2014t7", model="gemma2b", more=("training.target_tokens=900",))
    reduced.experiment |= {"twin": "RUN", "twin_config": "0f"}
    rates = [one[RATE] for one in search_settings(reduced).reduced]
    assert rates == [2e-5, 5e-5, 1e-4, 5e-5]  # as many trials as its multi-task run has


def test_three_models_get_the_full_space_and_the_others_four_configurations():
    full = declared("semeval2014t7").experiment["full_models"]
    assert len(full) == 3
    other = search_settings(declared("semeval2014t7", model="gemma2b"))
    assert other.trials == len(other.reduced) == 4


def test_the_temperature_is_only_drawn_where_something_is_sampled_by_it(tmp_path):
    settings = search_settings(declared("semeval2014t7", "semeval2017t3"))
    search = Search(settings, tmp_path, seed=2)
    search.run(lambda attempt: 0.0)
    values = [record["values"] for record in search.records()]
    assert len({one["strategy.sampling"] for one in values}) == 3
    assert all(
        ("strategy.temperature" in one) == (one["strategy.sampling"] == "temperature") for one in values
    )


def test_any_split_but_dev_is_refused():
    with pytest.raises(ConfigError, match="experiment.split=test: hyper-parameters are chosen on dev only"):
        search_settings(declared("semeval2014t7", more=("experiment.split=test",)))


def test_a_search_without_a_declared_space_is_told_which_experiment_has_one():
    with pytest.raises(ConfigError, match="is not declared; a search needs experiment=hp_search"):
        search_settings(compose())


def test_a_reduced_configuration_outside_the_space_is_refused():
    wrong = declared("semeval2014t7", model="gemma2b")
    wrong.experiment["reduced"][1]["strategy.rank"] = 12
    with pytest.raises(ConfigError, match=r"reduced\[1\].strategy.rank=12 is outside"):
        search_settings(wrong)


def test_a_space_that_says_neither_choices_nor_bounds_is_refused():
    wrong = declared("semeval2014t7")
    wrong.experiment["space"]["strategy.rank"] = 16
    with pytest.raises(ConfigError, match="experiment.space.strategy.rank is 16; allowed"):
        search_settings(wrong)


def test_the_best_values_compose_into_a_run_that_knows_its_budget():
    study = "hp_search-semeval2014t7+semeval2017t3-tiny-s2_shared-smoke-seed42-0123abcd"
    values = {RATE: 3.1e-05, RANK: 32, "strategy.sampling": "temperature", "strategy.temperature": 2}
    words = overrides(values, {"trials": 20, "split": "dev", "study": study})
    run = compose(task=["semeval2014t7", "semeval2017t3"], strategy="s2_shared", overrides=words)
    assert (run.training.learning_rate, run.strategy.rank) == (3.1e-05, 32)
    assert (run.strategy.sampling, run.strategy.temperature) == ("temperature", 2.0)
    assert run.experiment["tuning"] == {"trials": 20, "split": "dev", "study": study}
    assert run.profile.report == ["test"]  # dev has chosen
    assert not any(set(word) & set(" {},'\"") for word in words)  # a shell passes them on as they are


def test_every_arm_of_a_comparison_has_one_budget_and_searches_only_what_concerns_it():
    config = compose(
        task=["ncbi_disease"], overrides=["experiment=hp_search", "experiment.full_models=[tiny]"]
    )
    rows = {row["key"]: row for row in space_rows(config)}
    assert rows["trials"] == {"key": "trials"} | dict.fromkeys(settings_by_arm(config), "20")
    assert rows["strategy.rank"]["single-task"] == rows["strategy.rank"]["multi-task"] == "8, 16, 32"
    assert rows["strategy.rank"]["token-controlled"] == "not searched"
    assert rows["strategy.temperature"]["single-task"] == "not searched"


def test_a_reduced_search_names_the_values_of_its_configurations():
    rows = {
        row["key"]: row
        for row in space_rows(compose(task=["ncbi_disease"], overrides=["experiment=hp_search"]))
    }
    assert rows["training.epochs"]["multi-task"] == "3, 5" and rows["trials"]["single-task"] == "4"
    assert rows["training.warmup"]["single-task"] == "as configured"
