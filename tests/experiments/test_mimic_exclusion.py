"""The MIMIC exclusion: the arms differ in what the shared adapter has read, and in nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from kaggle_kit.analysis.contrasts import contrasts
from kaggle_kit.core.artifacts import find_runs
from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runs import start_run
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.experiment import preparation, scoring, training_session
from kaggle_kit.experiment.manifest import record_run
from kaggle_kit.experiments import mimic_exclusion
from tests.experiment.test_rounds import Page, small_models  # noqa: F401

NER, SPANS = MIMIC = ["semeval2014t7", "semeval2015t14"]
PRIMARY = ("task_a_strict_f1", "task1_strict_f1")
THYME = "semeval2016t12"
KEPT = ["semeval2021t6", "semeval2017t3"]
FIVE = [*MIMIC, THYME, *KEPT]
FIRST = {  # arm -> the tasks of its first phase
    "full": FIVE,
    "excluded": KEPT,
    "leave_target_out": [SPANS, THYME, *KEPT],
}
STRATEGIES = ("s3a_flat", "s3b_hierarchical")
PRIVATE = {  # strategy -> what the second phase trains
    "s3a_flat": {f"{kind}:{task}" for task in MIMIC for kind in ("private", "fusion", "heads")},
    "s3b_hierarchical": {"level1", *(f"heads:{task}" for task in MIMIC)},
}


def config_of(
    arm: str, *more: str, strategy: str | None = None, tasks: list[str] | None = None, seed: int = 3
) -> RunConfig:
    overrides = ["experiment=mimic_exclusion", f"experiment.arm={arm}", "practice.documents=6"]
    overrides += ["practice.terms=20", "training.epochs=1", *more]
    if arm == "leave_target_out" and not any(word.startswith("experiment.target") for word in more):
        overrides.append(f"experiment.target={NER}")
    return compose(task=tasks or FIVE, strategy=strategy, overrides=overrides, seed=seed)


class Arm(Page):
    """One run of the page, from its configuration to its manifest."""

    def __init__(self, arm: str, strategy: str, folder) -> None:
        config = config_of(arm, strategy=strategy)
        mimic_exclusion.check(config)
        super().__init__(config, start_run(config, page="mimic_exclusion", runs_dir=folder))
        self.plans = mimic_exclusion.plan_phases(config, self.encoded)
        self.evaluated = mimic_exclusion.evaluated(config)
        self.built = self.values()
        self.scored_config = mimic_exclusion.evaluated(config)
        phases = mimic_exclusion.phases(config, self.model, self.plans)
        first, second = (phase.prepare for phase in phases)
        self.phases = [
            replace(phases[0], prepare=lambda: (first(), self.note("first"))),
            replace(phases[1], prepare=lambda: (second(), self.note("second"))),
        ]
        self.learning, self.start = {}, {}
        self.train()
        self.run.write_metrics(scoring.evaluate_split(self, self.run, "dev"))
        record_run(self, self.session.trainers)

    def note(self, phase: str) -> None:
        """Every group's values and whether it learns, as the phase begins."""
        self.start[phase] = self.values()
        groups = self.model.parameter_groups().items()
        self.learning[phase] = {name for name, group in groups if group.parameters[0].requires_grad}

    def values(self) -> dict[str, list[torch.Tensor]]:
        groups = self.model.parameter_groups().items()
        return {name: [p.detach().clone() for p in group.parameters] for name, group in groups}


@pytest.fixture(scope="module", params=STRATEGIES)
def arms(request, tmp_path_factory, small_models) -> dict[str, Arm]:  # noqa: F811
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_session, "pass_gate", lambda _, tasks: f"gate on {', '.join(tasks)}")
        return {arm: Arm(arm, request.param, folder) for arm in mimic_exclusion.ARMS}


def strategy_of(arms: dict[str, Arm]) -> str:
    return arms["full"].config.experiment["reference"]


def changed(before: dict[str, list[torch.Tensor]], after: dict[str, list[torch.Tensor]]) -> set[str]:
    return {
        name
        for name in before
        if not all(torch.equal(a, b) for a, b in zip(before[name], after[name], strict=True))
    }


def test_each_arm_reads_its_own_tasks_first_and_all_as_many_tokens_in_as_many_steps(arms):
    courses = []
    for name, arm in arms.items():
        tokens = arm.plans[0].tokens
        assert set(tokens) == set(FIRST[name]) and all(tokens.values())
        assert f"gate on {', '.join(FIRST[name])}" in arm.session.notes
        courses.append(np.cumsum([sum(step.tokens.values()) for step in arm.plans[0].steps]))
    assert len({len(course) for course in courses}) == len({course[-1] for course in courses}) == 1
    largest = max(np.diff(courses[0], prepend=0))  # whole rows bring a step near its target, not onto it
    assert all(abs(course - courses[0]).max() <= largest for course in courses)


def test_every_arm_can_be_planned_from_the_run_of_any_and_only_its_sources_differ(arms):
    run = arms["excluded"]
    planned = mimic_exclusion.every_arm(run.config)
    assert list(planned) == ["full", f"without {NER}", f"without {SPANS}", "excluded"]
    steps = {name: mimic_exclusion.plan_first(config, run.encoded) for name, config in planned.items()}
    for name, arm in (("full", "full"), ("excluded", "excluded"), (f"without {NER}", "leave_target_out")):
        assert steps[name].steps_sha256 == arms[arm].plans[0].steps_sha256
    found = {name: mimic_exclusion.by_source(run.config, plan.tokens) for name, plan in steps.items()}
    assert len({sum(tokens.values()) for tokens in found.values()}) == 1
    assert found["excluded"]["MIMIC notes"] == found["excluded"]["other clinical notes"] == 0
    assert found[f"without {NER}"]["MIMIC notes"] == steps[f"without {NER}"].tokens[SPANS]


def test_tokens_are_counted_by_the_kind_of_text_that_a_task_reads():
    tokens = dict(zip(FIVE, (1, 2, 4, 8, 16), strict=True))
    sums = {"MIMIC notes": 3, "other clinical notes": 4, "public text": 24}
    assert mimic_exclusion.by_source(config_of("full"), tokens) == sums


def test_the_second_phase_is_the_same_in_every_step(arms):
    plans = [arm.plans[1] for arm in arms.values()]
    assert all(plan == plans[0] and plan.steps_sha256 == plans[0].steps_sha256 for plan in plans)
    assert set(plans[0].tokens) == set(MIMIC)
    mimic = {name: arms["full"].encoded[name] for name in MIMIC}
    alone = preparation.plan_training(arms["full"].config, mimic)
    assert plans[0].steps == alone.steps[-len(plans[0]) :] and len(plans[0]) == len(alone) // 2


def test_the_strategys_own_adapters_learn_in_the_first_phase(arms):
    """With S3b, the first phase trained the shared adapter and heads, the second nothing but heads."""
    for name, arm in arms.items():
        if strategy_of(arms) == "s3a_flat":
            own = {f"{kind}:{task}" for task in FIRST[name] for kind in ("private", "fusion", "heads")}
        else:
            own = {"level1", "level2", "cross_level", *(f"heads:{task}" for task in FIRST[name])}
        assert arm.learning["first"] == {"shared", *own}
        reached = {g for g in own if not g.startswith(tuple(PRIVATE[strategy_of(arms)]))} | {"shared"}
        assert changed(arm.built, arm.start["second"]) == reached  # the others are set back by then


def test_the_second_phase_learns_what_is_private_afresh_on_a_frozen_shared_adapter(arms):
    private = PRIVATE[strategy_of(arms)]
    for arm in arms.values():
        assert arm.learning["second"] == private
        assert not changed(arm.built, arm.start["second"]) & private
        assert changed(arm.start["second"], arm.values()) == private


def test_all_runs_count_all_their_tokens_and_score_the_mimic_tasks_or_the_target_alone(arms):
    for name, arm in arms.items():
        manifest = arm.run.manifest()
        assert manifest["totals"]["tokens"] == {
            task: sum(plan.tokens.get(task, 0) for plan in arm.plans) for task in manifest["totals"]["tokens"]
        }
        assert {m.task for m in arm.run.metrics()} == set([NER] if name == "leave_target_out" else MIMIC)
        assert manifest["strategy"] == f"{strategy_of(arms)}_{name}"
        assert manifest["selection"]["rule"] == "last"
        assert manifest["steps_sha256"] == [plan.steps_sha256 for plan in arm.plans]


def test_the_arms_are_set_against_each_other_where_they_have_finished(arms):
    documents = contrasts("mimic_exclusion", find_runs(arms["full"].run.path.parent))
    figures = {arm: {m.task: m.value for m in arms[arm].run.metrics() if m.name in PRIMARY} for arm in arms}
    found = {
        (each["task"], each["first"], each["second"]): each
        for document in documents
        for each in document["contrasts"]
    }
    without = f"leave_target_out {NER}"
    assert set(found) == {
        (NER, "full", "excluded"),
        (SPANS, "full", "excluded"),
        (NER, "full", without),
        (NER, without, "excluded"),
    }
    figures[without] = figures["leave_target_out"]
    for (task, first, second), each in found.items():
        assert each["difference"] == pytest.approx(figures[first][task] - figures[second][task])
        assert each["verdict"] == "one seed: no inference"


@pytest.mark.parametrize(
    ("arm", "more", "told"),
    [
        ("full", ("training.max_steps=9",), "end the arms at different points"),
        ("full", ("training.selection=best",), "each arm would choose its own step"),
        ("excluded", (f"experiment.target={NER}",), "does nothing in arm excluded"),
        (
            "leave_target_out",
            (f"experiment.target={THYME}",),
            f"name the task to leave out, of {NER}, {SPANS}",
        ),
        ("full", ("strategy.kind=shared", "strategy.private_rank=null", "strategy.fusion=none"), "'shared'"),
        ("full", ("strategy.kind=sequential",), "or has phases of its own"),
    ],
)
def test_what_would_be_no_arm_of_the_comparison_is_refused(arm, more, told):
    with pytest.raises(ConfigError, match=told):
        mimic_exclusion.check(config_of(arm, *more))


def test_other_tasks_arms_and_experiments_are_refused():
    with pytest.raises(ConfigError, match=f"every arm needs exactly --task {','.join(FIVE)}"):
        mimic_exclusion.check(config_of("full", tasks=[*MIMIC, *KEPT]))
    with pytest.raises(ConfigError, match=r"experiment\.arm=half is not legal; allowed: full, excluded"):
        config_of("half")
    with pytest.raises(ConfigError, match="set experiment=mimic_exclusion"):
        mimic_exclusion.check(compose(task=FIVE, strategy="s3a_flat"))
    with pytest.raises(
        ConfigError, match="for strategy s3a_flat or s3b_hierarchical, and the strategy is 's4"
    ):
        config_of("full", strategy="s4_sequential")
