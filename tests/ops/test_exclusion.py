"""The MIMIC exclusion: the arms differ in what the shared adapter has read, and in nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kaggle_kit.analysis.contrasts import contrasts
from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.folders import find_runs
from kaggle_kit.core.runs import start_run
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.ops import exclusion, rounds, sessions, wiring
from tests.ops.test_rounds import Page, small_models  # noqa: F401

MIMIC = ["semeval2014t7", "semeval2015t14"]
PRIMARY = ("task_a_strict_f1", "task1_strict_f1")
KEPT = ["semeval2021t6", "semeval2017t3"]


def config_of(arm: str, *more: str, tasks: list[str] | None = None) -> RunConfig:
    overrides = ["experiment=mimic_exclusion", f"experiment.arm={arm}", "practice.documents=6"]
    overrides += ["practice.terms=20", "training.epochs=1", *more]
    return compose(task=tasks or [*MIMIC, *KEPT], strategy="s2_shared", overrides=overrides, seed=3)


class Arm(Page):
    """One run of the page, from its configuration to its manifest."""

    def __init__(self, arm: str, folder) -> None:
        config = config_of(arm)
        exclusion.check(config)
        super().__init__(config, start_run(config, page="mimic_exclusion", runs_dir=folder))
        self.plans = exclusion.plan_phases(config, self.encoded)
        self.mimic = exclusion.only_mimic(config)
        phases = exclusion.phases(config, self.network, self.plans)
        prepare = phases[1].prepare
        phases[1] = replace(phases[1], prepare=lambda: (prepare(), self.note_the_start()))
        parts = (config, self.run, self.network, self.loaded, self.encoded, self.corpora, phases)
        self.session = sessions.run_session(*parts)
        mimic_dev = {name: self.dev[name] for name in MIMIC}
        metrics = rounds.evaluate(
            self.mimic, self.run, self.network, self.loaded, self.encoded_dev, mimic_dev, self.train, "dev"
        )
        self.run.write_metrics(metrics)
        rounds.record(config, self.run, self.network, self.loaded, self.session.trainers, self.corpora)

    def note_the_start(self) -> None:
        """Every group's values and whether it learns, as the second phase begins."""
        groups = self.network.parameter_groups().items()
        self.start = {name: [p.detach().clone() for p in group.parameters] for name, group in groups}
        self.learning = {name for name, group in groups if group.parameters[0].requires_grad}


@pytest.fixture(scope="module")
def arms(tmp_path_factory, small_models) -> dict[str, Arm]:  # noqa: F811
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "pass_gate", lambda *parts: f"gate on {', '.join(parts[4])}")
        return {arm: Arm(arm, folder) for arm in (exclusion.FULL, exclusion.EXCLUDED)}


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_excluded_arm_reads_no_mimic_token_first_but_as_many_tokens(arms):
    full, excluded = (arms[arm].plans[0].tokens for arm in ("full", "excluded"))
    assert set(full) == {*MIMIC, *KEPT} and set(excluded) == set(KEPT)
    assert sum(excluded.values()) == sum(full.values())
    assert f"gate on {', '.join(KEPT)}" in arms["excluded"].session.notes


def test_the_second_phase_is_the_same_in_every_step(arms):
    full, excluded = (arms[arm].plans[1] for arm in ("full", "excluded"))
    assert full == excluded and full.sha256 == excluded.sha256
    assert set(full.tokens) == set(MIMIC)
    mimic = {name: arms["full"].encoded[name] for name in MIMIC}
    alone = wiring.plan_training(arms["full"].config, mimic)
    assert full.steps == alone.steps[-len(full) :] and len(full) == len(alone) // 2


def test_only_the_shared_adapter_and_what_was_trained_with_it_tell_the_arms_apart_then(arms):
    full, excluded = (arms[arm].start for arm in ("full", "excluded"))
    differ = {name for name in full if not same(full[name], excluded[name])}
    assert differ == {"shared", *(f"heads:{task}" for task in KEPT)}
    private = {f"{kind}:{task}" for task in MIMIC for kind in ("private", "fusion", "heads")}
    assert arms["full"].learning == arms["excluded"].learning == private


def test_both_runs_count_all_their_tokens_and_score_the_mimic_tasks(arms):
    for arm in arms.values():
        manifest = arm.run.manifest()
        planned = [plan.tokens.get(task, 0) for plan in arm.plans for task in [*MIMIC, *KEPT]]
        assert sum(manifest["totals"]["tokens"].values()) == sum(planned)
        assert manifest["totals"]["tokens"] == {
            task: sum(plan.tokens.get(task, 0) for plan in arm.plans) for task in manifest["totals"]["tokens"]
        }
        assert {metric.task for metric in arm.run.metrics()} == set(MIMIC)
        assert manifest["strategy"] == f"s4_{arm.config.experiment['arm']}"
        assert manifest["selection"]["rule"] == "last"


def test_the_arms_are_set_against_each_other_where_both_have_finished(arms, tmp_path):
    (document,) = contrasts("mimic_exclusion", find_runs(arms["full"].run.path.parent))
    figures = {arm: {m.task: m.value for m in arms[arm].run.metrics() if m.name in PRIMARY} for arm in arms}
    assert [(each["task"], each["first"], each["second"]) for each in document["contrasts"]] == [
        (task, "full", "excluded") for task in MIMIC
    ]
    for each in document["contrasts"]:
        full, excluded = (figures[arm][each["task"]] for arm in ("full", "excluded"))
        assert each["difference"] == pytest.approx(full - excluded)
        assert each["verdict"] == "one seed: no inference"


def test_other_tasks_and_other_ends_of_training_are_refused():
    with pytest.raises(ConfigError, match="both arms need exactly --task semeval2014t7,semeval2015t14,"):
        exclusion.check(config_of("full", tasks=[*MIMIC, *KEPT, "semeval2016t12"]))
    with pytest.raises(ConfigError, match="end the arms at different points"):
        exclusion.check(config_of("full", "training.max_steps=9"))
    with pytest.raises(ConfigError, match=r"experiment\.arm=half is not legal; allowed: full, excluded"):
        config_of("half")
    with pytest.raises(ConfigError, match="set experiment=mimic_exclusion"):
        exclusion.check(compose(task=[*MIMIC, *KEPT], strategy="s4_sequential"))
