"""Token-controlled baselines: what follows from a finished multi-task run, and which runs have none."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from kaggle_kit.core.artifacts import Metric, RunFolder, Totals
from kaggle_kit.core.config import compose, from_yaml
from kaggle_kit.core.errors import ConfigError, RunFolderError
from kaggle_kit.core.runs import start_run
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.experiment import preparation, training_session
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.manifest import record_run
from kaggle_kit.experiment.scoring import quick_evaluation
from kaggle_kit.experiment.training_session import open_trainer
from kaggle_kit.experiments import ablation, token_controlled, token_controlled_plan
from kaggle_kit.models.adapter_files import save_adapters, saved_ranks
from kaggle_kit.models.build import build_model
from kaggle_kit.models.parity import MAX_DIFFERENCE
from tests.experiment.test_rounds import reachable_target, small_models  # noqa: F401
from tests.signing import sign

NER, RELATIONS = "semeval2014t7", "semeval2021t6"
TUNING = ("trials", "split", "study")
SETTINGS = ("experiment=token_controlled", "practice.documents=6", "practice.terms=20")


def train(config: RunConfig, run: RunFolder, multi: RunFolder | None = None) -> RunFolder:
    """A page from its run folder to its manifest."""
    exp = Experiment(config, run)
    if multi:
        exp.corpora = preparation.corpora_of(multi, config)
        exp.encoded = token_controlled_plan.labelled(config, exp.encoded)
        token_controlled.assert_active_parameters(multi, exp.model)
        exp.plan = token_controlled_plan.plan_control(multi, config, exp.encoded)
    elif "levels" in config.experiment:
        strategy, _ = ablation.matched_strategy(config, exp.backbone, exp.specs)
        exp.model = build_model(exp.backbone, exp.specs.values(), strategy)
    quick = quick_evaluation(exp, {name: exp.samples()[name] for name in exp.scored_config.tasks})
    trainer = open_trainer(exp, exp.plan, quick, tokens=sum(exp.plan.tokens.values()))
    training_session.train(exp, trainer)
    save_adapters(exp.model, run.adapters)
    record_run(exp, [trainer])
    return run


def multi_task(runs_dir, strategy: str = "s2_shared", *more: str, settings=SETTINGS) -> RunFolder:
    overrides = [*settings, "training.max_steps=3", "training.quick_every=2", "training.patience=1", *more]
    config = compose(task=[NER, RELATIONS], strategy=strategy, overrides=overrides, seed=3)
    page = config.experiment.get("page", strategy)
    page = "encoder_baselines" if config.training.full_finetuning else page
    return train(config, start_run(config, page=page, runs_dir=runs_dir))


def asked(multi: RunFolder, *more: str, task: str = NER, seed: int = 3) -> RunConfig:
    overrides = [*SETTINGS, f"experiment.twin={multi.run_id}", *more]
    return compose(task=[task], overrides=overrides, seed=seed)


@pytest.fixture(scope="module")
def shared(tmp_path_factory, small_models) -> RunFolder:  # noqa: F811
    return multi_task(tmp_path_factory.mktemp("runs"))


def altered(multi: RunFolder, folder, **fields) -> RunFolder:
    """A copy of a run whose manifest says otherwise."""
    path = folder / multi.run_id
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(multi.config_yaml.read_text())
    sign(RunFolder(path), multi.manifest() | fields)
    return RunFolder.open(path)


def test_the_control_of_a_whole_backbone_trains_the_whole_backbone(tmp_path, small_models):  # noqa: F811
    multi = multi_task(tmp_path, "s2_shared", "training.full_finetuning=true")
    config = token_controlled.control_of(multi, asked(multi))
    assert config.training.full_finetuning and config.strategy.rank is None
    run = train(config, start_run(config, page="token_controlled", runs_dir=tmp_path), multi)
    assert run.manifest()["active_parameters"][NER] == multi.manifest()["active_parameters"][NER]
    assert run.manifest()["token_parity_error"] == 0


@pytest.mark.parametrize("control", ["total", "share"])
def test_a_control_repeats_its_run_but_for_whose_tokens_it_sees(tmp_path, shared, control):
    config = token_controlled.control_of(shared, asked(shared, f"experiment.control={control}"))
    run = start_run(config, page="token_controlled", runs_dir=tmp_path)
    theirs, own = shared.manifest(), train(config, run, shared).manifest()
    tokens = theirs["totals"]["tokens"]
    target = sum(tokens.values()) if control == "total" else tokens[NER]
    assert own["totals"]["tokens"] == {NER: target} and own["token_parity_error"] == 0
    assert own["twin"] == {
        "of": shared.run_id,
        "of_config": theirs["config_hash"],
        "control": control,
        "task": NER,
        "target_tokens": target,
        "match": "presented",
    }
    steps = 3 if control == "total" else round(3 * target / sum(tokens.values()))
    assert (theirs["optimiser_steps"], own["optimiser_steps"]) == (3, steps)
    assert len(run.events()) == len(run.tokens()) == steps
    assert own["epochs_over_own_data"][NER] == pytest.approx(
        theirs["epochs_over_own_data"][NER] * target / tokens[NER]
    )
    assert own["active_parameters"] == {NER: theirs["active_parameters"][NER]}
    same = ("seed", "selection", "tuning", "model", "profile")
    assert {key: own[key] for key in same} == {key: theirs[key] for key in same}
    before, after = from_yaml(shared.config_yaml.read_text()), from_yaml(run.config_yaml.read_text())
    assert replace(before.training, target_tokens=target, max_steps=None) == after.training
    assert before.practice == after.practice and before.tasks[NER] == after.tasks[NER]


def test_under_the_rule_last_quick_evaluation_neither_stops_nor_chooses(shared):
    manifest = shared.manifest()
    assert manifest["selection"] == {"rule": "last", "split": None, "metric": None}
    assert len(shared.events()) == 3  # patience is 1, and untrained weights never reach a new best
    evaluated = [event["step"] for event in shared.events() if "quick_evaluation" in event]
    assert evaluated == [2, 3]


@pytest.mark.parametrize("strategy", ["s3a_flat", "s3b_hierarchical"])
@pytest.mark.parametrize("task", [NER, RELATIONS])
def test_a_control_has_the_active_parameters_of_its_task_in_any_strategy(tmp_path, strategy, task):
    multi = multi_task(tmp_path, strategy)
    config = token_controlled.control_of(multi, asked(multi, task=task))
    model = Experiment(config).model
    token_controlled.assert_active_parameters(multi, model)
    (row,) = token_controlled.active_beside(multi, model)
    theirs = multi.manifest()["active_parameters"][task]
    assert (row["task"], row["multi-task"]) == (task, theirs)
    assert row["difference"] == pytest.approx((row["control"] - theirs) / theirs)
    assert config.strategy.rank > 16 and not config.strategy.pcgrad and config.strategy.fusion == "none"


def test_a_control_of_an_ablation_has_the_parameters_of_the_ranks_that_were_solved(tmp_path):
    target = f"experiment.target={reachable_target(NER, RELATIONS)}"
    ablated = ("experiment=ablation_architecture", target)
    multi = multi_task(tmp_path, "a3", settings=(*ablated, *SETTINGS[1:]))
    assert saved_ranks(multi.adapters)["shared"] != from_yaml(multi.config_yaml.read_text()).strategy.rank
    config = token_controlled.control_of(multi, asked(multi))
    run = train(config, start_run(config, page="token_controlled", runs_dir=tmp_path), multi)
    own, theirs = (folder.manifest()["active_parameters"][NER] for folder in (run, multi))
    assert own == pytest.approx(theirs, rel=MAX_DIFFERENCE)
    assert run.manifest()["twin"]["of"] == multi.run_id
    with pytest.raises(ConfigError, match=r"^experiment\.alpha is 0\.1 here and None in the control"):
        token_controlled.control_of(multi, asked(multi, "experiment.alpha=0.1"))
    with pytest.raises(RunFolderError, match="strategy.json is missing"):
        token_controlled.control_of(altered(multi, tmp_path / "elsewhere"), asked(multi))


def test_a_run_of_private_adapters_alone_has_no_control(tmp_path):
    multi = multi_task(tmp_path, "a2")
    with pytest.raises(RunFolderError, match="share no adapter"):
        token_controlled.control_of(multi, asked(multi))


def test_a_model_of_another_size_is_refused_before_training(shared):
    group = SimpleNamespace(parameters=(torch.nn.Parameter(torch.zeros(1000)),), tasks=(NER,))
    model = SimpleNamespace(parameter_groups=lambda: {"single": group}, specs=[NER])
    with pytest.raises(ConfigError, match=f"active_parameters.{NER} is 1,000 here and"):
        token_controlled.assert_active_parameters(shared, model)


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("training.learning_rate=1e-4", "training.learning_rate"),
        ("practice.transfer=none", "practice.transfer"),
        ("experiment.alpha=0.1", "experiment.alpha"),
        ("strategy.rank=8", "strategy.rank"),
        ("training.target_tokens=7", "training.target_tokens"),
    ],
)
def test_what_the_run_did_otherwise_cannot_be_asked_of_its_control(shared, override, field):
    with pytest.raises(
        ConfigError, match=f"^{field} is .* here and .* in the control of {shared.run_id[:9]}"
    ):
        token_controlled.control_of(shared, asked(shared, override))


def tuning(study: str, trials: int = 4) -> list[str]:
    return [
        f"experiment.tuning.{key}={value}" for key, value in zip(TUNING, (trials, "dev", study), strict=True)
    ]


def test_a_control_takes_what_a_search_of_its_own_found_with_as_many_trials(tmp_path, shared):
    found = ["training.learning_rate=1e-4", "profile.report=[test]"]
    more = [*SETTINGS, "training.max_steps=3", "profile.report=[test]", *tuning("theirs")]
    theirs = compose(task=[NER, RELATIONS], strategy="s2_shared", overrides=more, seed=3)
    multi = start_run(theirs, page="s2_shared", runs_dir=tmp_path)
    sign(multi, shared.manifest() | multi.facts)
    tokens = sum(shared.manifest()["totals"]["tokens"].values())
    at_its_own = f"experiment.tuning.target_tokens={tokens}"
    config = token_controlled.control_of(multi, asked(multi, *found, *tuning("own"), at_its_own))
    assert config.training.learning_rate == 1e-4 and config.training.target_tokens == tokens
    assert config.training.warmup == theirs.training.warmup
    own = {"trials": 4, "split": "dev", "study": "own", "target_tokens": tokens}
    assert config.experiment["tuning"] == own
    with pytest.raises(ConfigError, match=f"target_tokens is 7 and the baseline has {tokens}: search at its"):
        token_controlled.control_of(
            multi, asked(multi, *found, *tuning("own"), "experiment.tuning.target_tokens=7")
        )
    with pytest.raises(ConfigError, match=r"^training\.epochs is 9\.0 here and"):  # of no effect there
        token_controlled.control_of(
            multi, asked(multi, *found, *tuning("own"), at_its_own, "training.epochs=9")
        )
    assert token_controlled.control_of(multi, asked(multi)).experiment["tuning"]["study"] == "theirs"
    with pytest.raises(
        ConfigError, match="experiment.tuning.trials is 9 here and 4 in s2_shared-.* one budget"
    ):
        token_controlled.control_of(multi, asked(multi, *found, *tuning("own", trials=9)))
    with pytest.raises(ConfigError, match="^training.learning_rate is 0.0001 here and"):
        token_controlled.control_of(multi, asked(multi, *found))


def test_a_control_follows_its_run_where_that_deviates_from_the_experiment_of_both(shared, tmp_path):
    first_look = ("experiment=first_look", "training.effective_batch=8")  # it has 24
    theirs = compose(task=[NER, RELATIONS], strategy="s2_shared", overrides=list(first_look), seed=3)
    multi = start_run(theirs, page="s2_shared", runs_dir=tmp_path)
    sign(multi, shared.manifest() | multi.facts)
    wanted = ["experiment=first_look", f"experiment.twin={multi.run_id}"]
    config = token_controlled.control_of(multi, compose(task=NER, overrides=wanted, seed=3))
    assert config.training.effective_batch == 8
    with pytest.raises(ConfigError, match=r"^training\.effective_batch is 12 here and 8 in the control"):
        token_controlled.control_of(
            multi, compose(task=NER, overrides=[*wanted, "training.effective_batch=12"], seed=3)
        )


def test_another_seed_task_or_control_is_refused_by_name(shared):
    with pytest.raises(ConfigError, match="^seed is 4 here and 3 in the control of"):
        token_controlled.control_of(shared, asked(shared, seed=4))
    with pytest.raises(ConfigError, match="has no 'semeval2016t12'; name one of"):
        token_controlled.control_of(shared, asked(shared, task="semeval2016t12"))
    with pytest.raises(ConfigError, match="experiment.control is 'half'; allowed: total, share"):
        token_controlled.control_of(shared, asked(shared, "experiment.control=half"))


def test_runs_that_have_no_control_are_refused_naming_the_field(tmp_path, shared):
    cases = {
        "selection.rule": {"selection": {"rule": "best", "split": "dev", "metric": "selection"}},
        "stopped_at": {"callbacks": [{"QuickEvaluationCallback": {"stopped_at": 2}}]},
        "tasks": {"tasks": [NER]},
    }
    for field, change in cases.items():
        folder = tmp_path / field
        folder.mkdir()
        with pytest.raises(RunFolderError, match=f"^{field} of {shared.run_id[:9]}"):
            token_controlled.control_of(altered(shared, folder, **change), asked(shared))


def test_a_control_leaves_out_the_training_documents_that_its_run_left_out(tmp_path, shared):
    config = token_controlled.control_of(shared, asked(shared))
    first, *others = [sample.document_id for sample in preparation.open_corpora(config)[NER].splits["train"]]
    multi = altered(shared, tmp_path, left_out={NER: [first], RELATIONS: []})
    corpus = preparation.corpora_of(multi, config)[NER]
    assert [sample.document_id for sample in corpus.splits["train"]] == others
    assert corpus.left_out == (first,) and shared.manifest()["left_out"] == {NER: [], RELATIONS: []}


def test_a_corpus_that_has_changed_since_is_refused(shared, monkeypatch):
    monkeypatch.setattr(preparation, "open_corpora", lambda *given: {NER: SimpleNamespace(sha256="0f")})
    with pytest.raises(ConfigError, match=f"data_hashes.{NER} is 0f here and"):
        preparation.corpora_of(shared, asked(shared))


def test_in_a_kaggle_session_the_run_is_found_where_another_kernel_left_it(tmp_path, shared, monkeypatch):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    monkeypatch.setattr("kaggle_kit.core.artifacts.KAGGLE_INPUT", shared.path.parent)
    assert token_controlled.multi_task_run(asked(shared), tmp_path / "working").path == shared.path


def test_the_run_is_found_by_id_or_path_and_must_be_finished(tmp_path, shared):
    found = token_controlled.multi_task_run(asked(shared), shared.path.parent)
    assert found.path == shared.path
    by_path = asked(shared, f"experiment.twin={shared.path}")
    assert token_controlled.multi_task_run(by_path, tmp_path).path == shared.path
    assert token_controlled.control_of(shared, by_path).experiment["twin"] == shared.run_id
    started = start_run(compose(seed=3), page="toy", runs_dir=tmp_path)
    with pytest.raises(RunFolderError, match="is unfinished"):
        token_controlled.multi_task_run(asked(shared, f"experiment.twin={started.run_id}"), tmp_path)


def test_without_a_run_practice_data_get_one_and_real_data_the_command(tmp_path, monkeypatch):
    ran = []

    def run_page(page, **choices):
        ran.append((page, choices["task"], choices["overrides"]))
        config = compose(
            task=choices["task"].split(","), strategy=page, overrides=choices["overrides"], seed=3
        )
        run = start_run(config, page=page, runs_dir=tmp_path)
        return run.finish(totals=Totals(), device="cpu", data_hashes={}).parent

    monkeypatch.setattr(token_controlled, "run_page", run_page)
    config = compose(task=[NER], overrides=["experiment=token_controlled", "training.epochs=0.5"], seed=3)
    made = token_controlled.multi_task_run(config, tmp_path)
    assert token_controlled.multi_task_run(config, tmp_path).path == made.path  # and not made again
    overrides = ["experiment=token_controlled", "training.epochs=0.5", "training.selection=last"]
    assert ran == [("s2_shared", f"{NER},{RELATIONS}", overrides)]
    real = replace(config, profile=replace(config.profile, corpora="any"))
    with pytest.raises(ConfigError, match="run s2_shared --task semeval2014t7,semeval2021t6 --model tiny"):
        token_controlled.multi_task_run(real, tmp_path)
    with pytest.raises(ConfigError, match="add experiment=token_controlled"):
        token_controlled.multi_task_run(compose(seed=3), tmp_path)


def test_the_page_shows_both_scores_of_the_primary_metric_and_their_difference(tmp_path, shared):
    multi = altered(shared, tmp_path)
    figures = {NER: "task_a_strict_f1", RELATIONS: "entity_f1"}
    multi.write_metrics(
        Metric(name, 0.75, "fraction", "dev", 9, task, task) for task, name in figures.items()
    )
    sign(multi)
    own = [Metric(name, 0.5, "fraction", "dev", 9, NER, NER) for name in (figures[NER], "task_a_relaxed_f1")]
    last, best = token_controlled.side_by_side(multi, {"last step": own, "best point": own})
    assert [last[key] for key in ("task", "multi-task", "control", "difference")] == [NER, 0.75, 0.5, 0.25]
    assert (last["control at"], last["metric"]) == ("last step", figures[NER])
    assert best == last | {"control at": "best point"}
