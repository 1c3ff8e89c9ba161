"""The MIMIC exclusion: the arms differ in what the shared adapter has read, and in nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError, RunFolderError
from kaggle_kit.core.runs import start_run
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.ops import exclusion, rounds, sessions, wiring
from tests.ops.test_rounds import Page, small_models  # noqa: F401

NER, SPANS = MIMIC = ["semeval2014t7", "semeval2015t14"]
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
        exclusion.check(config)
        super().__init__(config, start_run(config, page="mimic_exclusion", runs_dir=folder))
        self.plans = exclusion.plan_phases(config, self.encoded)
        self.evaluated = exclusion.evaluated(config)
        self.built = self.values()
        phases = exclusion.phases(config, self.network, self.plans)
        first, second = (phase.prepare for phase in phases)
        phases = [
            replace(phases[0], prepare=lambda: (first(), self.note("first"))),
            replace(phases[1], prepare=lambda: (second(), self.note("second"))),
        ]
        self.learning, self.start = {}, {}
        parts = (config, self.run, self.network, self.loaded)
        self.session = sessions.run_session(*parts, self.encoded, self.corpora, phases)
        dev = {name: self.dev[name] for name in self.evaluated.tasks}
        metrics = rounds.evaluate(self.evaluated, *parts[1:], self.encoded_dev, dev, self.train, "dev")
        self.run.write_metrics(metrics)
        rounds.record(config, self.run, self.network, self.loaded, self.session.trainers, self.corpora)

    def note(self, phase: str) -> None:
        """Every group's values and whether it learns, as the phase begins."""
        self.start[phase] = self.values()
        groups = self.network.parameter_groups().items()
        self.learning[phase] = {name for name, group in groups if group.parameters[0].requires_grad}

    def values(self) -> dict[str, list[torch.Tensor]]:
        groups = self.network.parameter_groups().items()
        return {name: [p.detach().clone() for p in group.parameters] for name, group in groups}


@pytest.fixture(scope="module", params=STRATEGIES)
def arms(request, tmp_path_factory, small_models) -> dict[str, Arm]:  # noqa: F811
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "pass_gate", lambda *parts: f"gate on {', '.join(parts[4])}")
        return {arm: Arm(arm, request.param, folder) for arm in exclusion.ARMS}


def strategy_of(arms: dict[str, Arm]) -> str:
    return arms["full"].config.experiment["reference"]


def changed(before: dict[str, list[torch.Tensor]], after: dict[str, list[torch.Tensor]]) -> set[str]:
    return {
        name
        for name in before
        if not all(torch.equal(a, b) for a, b in zip(before[name], after[name], strict=True))
    }


def test_each_arm_reads_its_own_tasks_first_and_all_as_many_tokens(arms):
    totals = set()
    for name, arm in arms.items():
        tokens = arm.plans[0].tokens
        assert set(tokens) == set(FIRST[name]) and all(tokens.values())
        assert f"gate on {', '.join(FIRST[name])}" in arm.session.notes
        totals.add(sum(tokens.values()))
    assert len(totals) == 1


def test_the_second_phase_is_the_same_in_every_step(arms):
    plans = [arm.plans[1] for arm in arms.values()]
    assert all(plan == plans[0] and plan.steps_sha256 == plans[0].steps_sha256 for plan in plans)
    assert set(plans[0].tokens) == set(MIMIC)
    mimic = {name: arms["full"].encoded[name] for name in MIMIC}
    alone = wiring.plan_training(arms["full"].config, mimic)
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


def test_the_arms_are_set_against_each_other_where_they_have_finished(arms, tmp_path):
    run = arms["excluded"].run
    said = exclusion.against_other_arms(run, run.path.parent).splitlines()
    assert [line.split(":")[0] for line in said] == [
        f"{NER} dev task_a_strict_f1",
        f"{SPANS} dev task1_strict_f1",
    ]
    assert "full - excluded" in said[0] and "full - leave_target_out" in said[0]
    assert "leave_target_out" not in said[1]  # it left the other task out
    alone = exclusion.against_other_arms(arms["full"].run, tmp_path)  # where no other arm has finished
    assert f"{NER} dev task_a_strict_f1: full 0" in alone and " - " not in alone


def test_the_runs_of_each_arm_are_found_over_seeds_targets_and_machines():
    like = as_dict(config_of("full"))
    given = {
        "a": config_of("full", seed=1),
        "b": config_of("excluded", "tasks.semeval2014t7.path=elsewhere", seed=2),
        "c": config_of("leave_target_out", seed=1),
        "d": config_of("leave_target_out", f"experiment.target={SPANS}"),
        "e": config_of("full", "training.epochs=2"),
        "f": config_of("full", strategy="s3b_hierarchical"),
        "g": compose(task=FIVE, strategy="s3a_flat"),
    }
    runs = [
        SimpleNamespace(run_id=name, config=lambda c=config: as_dict(c)) for name, config in given.items()
    ]
    for task, left_out in ((NER, ["c"]), (SPANS, ["d"])):
        found = exclusion.find_arms(runs, task, like)
        assert {arm: [run.run_id for run in some] for arm, some in found.items()} == {
            "full": ["a"],
            "excluded": ["b"],
            "leave_target_out": left_out,
        }


def as_dict(config: RunConfig) -> dict:
    return json.loads(json.dumps(asdict(config)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data_hashes", {}),
        ("left_out", {"semeval2015t14": ["note"]}),
        ("seed", 4),
        ("active_parameters", {"semeval2014t7": 1}),
        ("selection", {"rule": "best"}),
        ("totals", {"tokens": {"semeval2014t7": 1}}),
        ("steps_sha256", ["first", "second"]),
    ],
)
def test_arms_that_differ_in_what_is_held_fixed_are_refused_by_the_fields_name(arms, field, value):
    one = arms["full"].run.manifest()
    exclusion.assert_comparable(one, arms["excluded"].run.manifest())
    with pytest.raises(RunFolderError, match=field):
        exclusion.assert_comparable(one, one | {field: value})


def test_the_difference_is_full_minus_the_other_arm(arms, tmp_path):
    for arm, value in (("full", 0.75), ("excluded", 0.5), ("leave_target_out", 0.625)):
        source = arms[arm].run
        path = tmp_path / source.run_id
        path.mkdir()
        (path / "manifest.json").write_bytes(source.manifest_json.read_bytes())
        config = source.config_yaml.read_text()  # the arms may have been trained on two machines
        (path / "config.yaml").write_text(config.replace("path: null", f"path: /{arm}"))
        metrics = [one | {"value": value} for one in json.loads(source.metrics_json.read_text())]
        elsewhere = [one | {"split": "test", "value": 0.0} for one in metrics]
        (path / "metrics.json").write_text(json.dumps(elsewhere + metrics))
    said = exclusion.against_other_arms(RunFolder.open(tmp_path / arms["full"].run.run_id), tmp_path)
    assert (
        f"{NER} dev task_a_strict_f1: full 0.7500, excluded 0.5000, leave_target_out 0.6250, "
        "full - excluded +0.2500, full - leave_target_out +0.1250" in said
    )


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
        exclusion.check(config_of(arm, *more))


def test_other_tasks_arms_and_experiments_are_refused():
    with pytest.raises(ConfigError, match=f"every arm needs exactly --task {','.join(FIVE)}"):
        exclusion.check(config_of("full", tasks=[*MIMIC, *KEPT]))
    with pytest.raises(ConfigError, match=r"experiment\.arm=half is not legal; allowed: full, excluded"):
        config_of("half")
    with pytest.raises(ConfigError, match="set experiment=mimic_exclusion"):
        exclusion.check(compose(task=FIVE, strategy="s3a_flat"))
    with pytest.raises(
        ConfigError, match="for strategy s3a_flat or s3b_hierarchical, and the strategy is 's4"
    ):
        config_of("full", strategy="s4_sequential")
