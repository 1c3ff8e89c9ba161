"""S5: which finished candidate it takes, over which runs, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kaggle_kit.core.artifacts import Metric, RunFolder, Totals
from kaggle_kit.core.errors import ConfigError, IncomparableRuns
from kaggle_kit.core.runs import start_run
from kaggle_kit.experiment import model_selection
from tests.experiment.test_rounds import NER, RANKING, Page, config_of, page, small_models  # noqa: F401


def test_s5_takes_the_better_of_the_finished_candidates_over_their_seeds(tmp_path):
    config = config_of("s5_qlora", NER, RANKING)
    _, because = model_selection.better_candidate(config, tmp_path)
    assert because.startswith("no finished run of s3a_flat, s3b_hierarchical")
    for strategy, scores in {"s3a_flat": (0.30, 0.40), "s3b_hierarchical": (0.36, 0.36)}.items():
        for seed, score in enumerate(scores):
            finished = replace(config_of(strategy, NER, RANKING), seed=seed)
            run = start_run(finished, page=strategy, runs_dir=tmp_path)
            names = {NER: "task_a_strict_f1", RANKING: "map"}
            run.write_metrics(Metric(n, score, "fraction", "dev", 1, t, t) for t, n in names.items())
            run.finish(**FINISHED)
    unscored = start_run(config_of("s3b_hierarchical", NER, RANKING), page="hp_search", runs_dir=tmp_path)
    unscored.finish(totals=Totals(), device="cpu", data_hashes={})  # counts for nothing, not for zero
    chosen, because = model_selection.better_candidate(config, tmp_path)
    assert because.startswith("s3b_hierarchical is the better of s3a_flat 0.")
    assert (chosen.strategy.kind, chosen.strategy.quantization) == ("hierarchical", "nf4")
    assert chosen.strategy.name == "s5_qlora"
    assert chosen.experiment["choice"] == {"of": "s3b_hierarchical", "split": "dev"}
    config.experiment["candidates"] = [path.name for path in tmp_path.glob("s3a_flat*")]
    _, because = model_selection.better_candidate(config, tmp_path)  # a study names the runs that count
    assert because.startswith("s3a_flat is the better of s3a_flat 0.")


FINISHED = {
    "totals": Totals(),
    "device": "cpu",
    "data_hashes": {},
    "selection": {"rule": "last", "split": None, "metric": None},
    "tuning": {"trials": 0, "split": None, "study": None},
    "active_parameters": {},
    "optimiser_steps": 1,
    "steps_sha256": ["rows"],
}


def candidate(
    folder,
    strategy: str,
    split: str,
    score: float,
    more: tuple[str, ...] = (),
    tasks: tuple[str, ...] = (NER, RANKING),
) -> RunFolder:
    """A finished run of S3a or S3b as S5 looks at it."""
    run = start_run(config_of(strategy, *tasks, more=more), page=strategy, runs_dir=folder)
    names = {NER: "task_a_strict_f1", RANKING: "map"}
    figures = {"dev": 0.1, split: score} if split != "dev" else {split: score}
    run.write_metrics(
        Metric(n, v, "fraction", s, 1, t, t) for t, n in names.items() for s, v in figures.items()
    )
    run.finish(**FINISHED)
    return run


def test_s5_trains_what_the_better_candidate_was_trained_with(tmp_path):
    candidate(tmp_path, "s3a_flat", "dev", 0.2)
    for seed, score, order in ((7, 0.0, (NER, RANKING)), (8, 0.9, (RANKING, NER))):
        more = ("strategy.rank=32", "strategy.cut=0.25", f"seed={seed}")
        candidate(tmp_path, "s3b_hierarchical", "dev", score, more, order)
    asked = config_of("s5_qlora", NER, RANKING)
    chosen, because = model_selection.better_candidate(asked, tmp_path)
    theirs = config_of("s3b_hierarchical", NER, RANKING, more=("strategy.rank=32", "strategy.cut=0.25"))
    own = {"name": "s5_qlora", "title": asked.strategy.title, "quantization": "nf4"}
    candidates = ["s3a_flat", "s3b_hierarchical"]
    assert chosen.strategy == replace(theirs.strategy, **own, candidates=candidates)
    assert "s3b_hierarchical" in because


@pytest.mark.parametrize("more", ["training.learning_rate=1e-3", "strategy.rank=32", "practice.terms=21"])
def test_s5_does_not_average_runs_that_differ_in_more_than_the_seed(tmp_path, more):
    kept = candidate(tmp_path, "s3a_flat", "dev", 0.2)
    candidate(tmp_path, "s3a_flat", "dev", 0.9, (more, "seed=4"))
    config = config_of("s5_qlora", NER, RANKING)
    named = r": .* in s3a_flat-.* but .* in s3a_flat-.*experiment\.candidates=\["
    with pytest.raises(IncomparableRuns, match=f"^config.{more.partition('=')[0]}{named}"):
        model_selection.better_candidate(config, tmp_path)
    config.experiment["candidates"] = [kept.run_id]
    assert model_selection.better_candidate(config, tmp_path)[0].strategy.rank == 16


def test_a_strategy_key_set_on_s5_itself_is_refused_once_a_candidate_decides(tmp_path):
    config = config_of("s5_qlora", NER, RANKING, more=("strategy.private_rank=4",))
    assert model_selection.better_candidate(config, tmp_path)[0].strategy.private_rank == 4  # as declared
    candidate(tmp_path / "other", "s3a_flat", "dev", 0.2)
    with pytest.raises(ConfigError, match=r"^strategy\.private_rank is 4 here and 8 in .* set it on the"):
        model_selection.better_candidate(config, tmp_path / "other")
    candidate(tmp_path / "same", "s3a_flat", "dev", 0.2, ("strategy.private_rank=4",))
    assert model_selection.better_candidate(config, tmp_path / "same")[0].strategy.private_rank == 4
    unquantised = config_of("s5_qlora", NER, RANKING, more=("strategy.quantization=none",))
    assert model_selection.better_candidate(unquantised, tmp_path / "same")[0].strategy.quantization == "none"


def test_s5_chooses_on_dev_whatever_else_its_candidates_report(tmp_path):
    candidate(tmp_path, "s3a_flat", "dev", 0.2)
    candidate(tmp_path, "s3b_hierarchical", "test", 0.9)
    chosen, because = model_selection.better_candidate(config_of("s5_qlora", NER, RANKING), tmp_path)
    assert because.startswith("s3a_flat is the better of") and chosen.strategy.kind == "shared_private"


def test_s5_says_that_candidates_scored_on_test_alone_do_not_choose(tmp_path):
    config = config_of("s5_qlora", NER, RANKING)
    paper = replace(config, profile=replace(config.profile, paper=True))
    with pytest.raises(ConfigError, match=r"scored on dev, where S5 chooses; .* profile.report=\[dev,test\]"):
        model_selection.better_candidate(paper, tmp_path)


def test_s5_is_refused_where_its_candidates_are_loaded_in_nf4_already(tmp_path):
    config = config_of("s5_qlora", NER, RANKING)
    large = replace(config, model=replace(config.model, parameters=7_000_000_000))
    with pytest.raises(ConfigError, match=r"s3a_flat on tiny \(7.00B parameters\) is loaded in NF4 already"):
        model_selection.better_candidate(large, tmp_path)
    for strategy in ("s3a_flat", "s3b_hierarchical"):
        candidate(tmp_path, strategy, "dev", 0.2, more=("strategy.quantization=none",))
    assert model_selection.better_candidate(large, tmp_path)[0].strategy.quantization == "nf4"


def test_a_paused_s5_goes_on_with_its_choice_though_a_better_candidate_has_finished_since(tmp_path):
    candidate(tmp_path / "runs", "s3a_flat", "dev", 0.2)
    asked = config_of("s5_qlora", NER, RANKING)
    begun, _ = model_selection.better_candidate(asked, tmp_path / "runs", tmp_path / "own")
    start_run(begun, page="s5_qlora", run_dir=tmp_path / "own", asked=asked)
    candidate(tmp_path / "runs", "s3b_hierarchical", "dev", 0.9)
    again, because = model_selection.better_candidate(asked, tmp_path / "runs", tmp_path / "own")
    assert again == begun and because == "shared_private, as this run began"
    assert start_run(again, page="s5_qlora", run_dir=tmp_path / "own", asked=asked)
    other, _ = model_selection.better_candidate(replace(asked, seed=4), tmp_path / "runs", tmp_path / "own")
    assert other.strategy.kind == "hierarchical"
