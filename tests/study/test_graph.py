"""The runs of a study: which there are, what each needs, and that each folder is its configuration's."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaggle_kit.core.config import compose
from kaggle_kit.core.runs import config_run_id
from kaggle_kit.kaggle.build import Experiment
from kaggle_kit.study import graph
from kaggle_kit.study.graph import Study
from kaggle_kit.study.spec import load_selection, parts_of

SMALL = [
    "models=[tiny]",
    "tasks=[semeval2021t6,semeval2017t3]",
    "seeds=[1,2]",
    "profile=smoke",
    "strategies=[s1_single,s3a_flat,s3b_hierarchical,s5_qlora]",
    "controls=[total,share,placebo]",
    "primary={model: tiny, strategy: s3b_hierarchical}",
    "ablations=[{name: A1, strategy: a1, experiment: ablation_architecture},"
    "{name: without PCGrad, strategy: s3a_flat, experiment: ablation_pcgrad,"
    " overrides: [\"experiment.level='off'\"]}]",
]


@pytest.fixture(scope="module")
def study():
    return Study(load_selection("rq5_practice", SMALL))


def test_each_kind_has_its_runs(study):
    counts = {kind: len(study.of_kind(kind)) for kind in graph.KINDS}
    # 2 seeds: S1 on 2 tasks; S3a, S3b; S5; A1 and S3a without PCGrad; 3 multi-task strategies with 2 tasks
    # and 3 controls.
    assert counts == {"baseline": 4, "multi_task": 4, "quantised": 2, "ablation": 4, "token_controlled": 36}


def test_each_folder_is_the_one_that_the_command_line_would_name(study):
    """Seeds and links are set without composing anew; the id must be the composed one all the same."""
    for kind in graph.KINDS:
        for run in (study.of_kind(kind)[0], study.of_kind(kind)[-1]):
            page, *words = run.command(Path("runs"))[4:]
            options = dict(zip(words[0:12:2], words[1:12:2], strict=True))
            named = {name: options[f"--{name}"] for name in ("model", "strategy", "profile")}
            config = compose(
                task=options["--task"].split(","), seed=int(options["--seed"]), overrides=words[12:], **named
            )
            assert config_run_id(config, page) == run.id == Path(options["--into"]).name
            assert config == run.config


def test_an_ablation_runs_on_the_page_that_asserts_parity_with_all_tasks_and_no_choice_of_steps(study):
    for run in study.of_kind(graph.ABLATION):
        assert run.page == "ablation_architecture" and run.tasks == ("semeval2021t6", "semeval2017t3")
        assert run.config.training.selection == "last"


def test_a_twin_is_tied_to_one_multi_task_run_of_its_seed(study):
    twins = study.of_kind(graph.TWIN)
    for twin in twins:
        multi = study.runs[twin.twin_of]
        assert multi.kind in (graph.MULTI_TASK, graph.QUANTISED) and multi.config.seed == twin.config.seed
        assert set(twin.tasks) < set(multi.tasks) and len(twin.tasks) == 1
        assert f"experiment.twin={multi.id}" in twin.overrides and twin.needs == (multi.id,)
    links = {(twin.twin_of, twin.tasks, twin.control) for twin in twins}
    assert len(links) == len(twins) == len({twin.id for twin in twins})


def test_s5_needs_s3a_and_s3b_of_all_seeds(study):
    for run in study.of_kind(graph.QUANTISED):
        needed = [study.runs[id] for id in run.needs]
        assert sorted((r.strategy, r.config.seed) for r in needed) == [
            ("s3a_flat", 1),
            ("s3a_flat", 2),
            ("s3b_hierarchical", 1),
            ("s3b_hierarchical", 2),
        ]


def test_runs_stand_behind_what_they_need(study):
    seen: set[str] = set()
    for run in study.runs.values():
        assert set(run.needs) <= seen
        seen.add(run.id)


def test_each_verdict_is_on_one_strategy_with_all_its_seeds_and_twins(study):
    verdicts = study.verdicts()
    assert list(verdicts) == ["s3a_flat-tiny", "s3b_hierarchical-tiny", "s5_qlora-tiny"]
    for verdict in verdicts.values():
        runs = [study.runs[id] for id in verdict["runs"]]
        multi = [run.id for run in runs if run.twin_of is None]
        assert {study.runs[id].strategy for id in multi} == {verdict["strategy"]} and len(multi) == 2
        twins = [run for run in runs if run.twin_of]
        assert {run.twin_of for run in twins} == set(multi) and len(twins) == 12
        assert not any(run.ablation for run in runs)


def test_what_is_asked_beside_transfer_follows_from_the_runs_that_are_declared(study):
    asked = study.questions()
    assert set(asked) == {"ablation", "s5"}
    assert asked["ablation"] == [run.id for run in study.of_kind(graph.ABLATION)]
    quantised = study.of_kind(graph.QUANTISED)
    assert set(asked["s5"]) == {run.id for run in quantised} | set(quantised[0].candidates)
    full = Study(load_selection("full"))
    exclusion = {run.page for id in full.questions()["mimic_exclusion"] for run in (full.runs[id],)}
    assert exclusion == {"mimic_exclusion"} and Study(load_selection("pilot")).questions() == {}


def test_a_changed_parameter_changes_the_run_and_whatever_depends_on_it():
    before = Study(load_selection("rq5_practice"))
    after = Study(load_selection("rq5_practice", ["overrides=[training.weight_decay=0.01]"]))
    assert len(after.runs) == len(before.runs) and not set(after.runs) & set(before.runs)
    fewer = Study(load_selection("rq5_practice", ["controls=[total]"]))
    assert set(fewer.runs) == {run.id for run in before.runs.values() if run.control != "share"}


def test_another_model_changes_the_models_part_alone():
    primary = "primary={model: tiny, strategy: s2_shared}"
    changes = ["models=[tiny,tiny_gemma2]", "controls=[total]", primary]
    runs = Study(load_selection("rq5_practice", changes)).runs
    for run in list(runs.values())[-1], list(runs.values())[0]:
        names = (run.config.model.name, run.tasks, run.strategy)
        assert compose(*names, seed=run.config.seed, overrides=run.overrides) == run.config


def test_what_two_studies_share_is_one_run():
    first = Study(load_selection("rq5_practice", ["controls=[total]"]))
    second = Study(load_selection("rq5_practice", ["controls=[total,share]"]))
    assert set(first.runs) == {id for id, run in second.runs.items() if run.control != "share"}
    twice = ["ablations=[{name: same, strategy: s2_shared}]"]
    assert set(Study(load_selection("rq5_practice", twice)).runs) == set(Study(load_selection()).runs)


def test_every_compared_run_declares_the_seeds_of_its_part():
    study = Study(load_selection("full"))
    for verdict in study.verdicts().values():
        runs = [study.runs[id] for id in verdict["runs"]]
        (declared,) = {tuple(run.config.experiment["seeds"]) for run in runs}
        assert {run.config.seed for run in runs} == set(declared)
        assert all(f"experiment.seeds=[{','.join(map(str, declared))}]" in run.overrides for run in runs)
    seeds = {part.models[0]: len(part.seeds) for part in parts_of(study.selection) if part.controls}
    assert len(set(seeds.values())) > 1  # parts differ in them


def test_a_placebo_is_a_control_of_its_own_and_belongs_to_the_comparison(study):
    placebos = [run for run in study.of_kind(graph.TWIN) if run.control == "placebo"]
    assert len(placebos) == 12 and len({run.id for run in placebos}) == 12
    for run in placebos:
        assert run.config.experiment["placebo"] is True and "experiment.placebo=true" in run.overrides
        assert run.needs == (run.twin_of,)
    assert {run.id for run in placebos} < {id for found in study.verdicts().values() for id in found["runs"]}


def test_verdicts_and_reports_of_the_full_study_are_on_test():
    study = Study(load_selection("full"))
    assert {found["split"] for found in study.verdicts().values()} == {"test"}
    assert all("test" in run.config.profile.report for run in study.runs.values() if run.twin_of is None)
    s5 = study.of_kind(graph.QUANTISED)
    assert s5 and all("dev" in study.runs[id].config.profile.report for run in s5 for id in run.needs)


def test_the_embedded_study_asks_the_question_with_s1_s2_and_every_control_of_s2():
    study = Study(load_selection("first_look"))
    counts = {kind: len(study.of_kind(kind)) for kind in graph.KINDS if study.of_kind(kind)}
    assert counts == {graph.BASELINE: 2, graph.MULTI_TASK: 2, graph.TWIN: 8}
    (verdict,) = study.verdicts().values()
    assert verdict["strategy"] == "s2_shared" and len(verdict["runs"]) == 10
    assert len({str(run.config.practice) for run in study.runs.values()}) == 1  # so one tiny model for all


def test_a_study_without_an_experiment_trains_what_its_commands_say():
    changes = ["strategies=[s2_shared]", "experiment=null", "controls=[]", "verdict=false"]
    (run, *_) = Study(load_selection("rq5_practice", changes)).runs.values()
    names = {"task": ",".join(run.tasks), "strategy": run.strategy, "profile": "smoke", "model": "tiny"}
    asked = Experiment.of(run.page, **names, seed=run.config.seed, overrides=run.overrides)
    assert config_run_id(asked.config(), run.page) == run.id
