"""Out of distribution: runs are loaded as they were scored, and compared only where comparable."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from kaggle_kit.analysis.verdict_inputs import Entry
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError, IncomparableRuns, RunFolderError
from kaggle_kit.core.restricted import prediction_line
from kaggle_kit.core.runs import run_flags, start_run
from kaggle_kit.core.types import Access, ComponentSpec, Kind, Mention, Relation, TaskSpec, UnifiedSample
from kaggle_kit.data import practice, registry
from kaggle_kit.evaluation.documents import document_table, figure
from kaggle_kit.experiment import scoring, training_session
from kaggle_kit.experiment.load_trained_run import assert_reproduced, judged_split, load_trained_run
from kaggle_kit.experiments import ood
from kaggle_kit.experiments import transfer_runs as arms_module
from kaggle_kit.experiments.transfer_runs import assert_arms, comparable_arms
from kaggle_kit.models.adapter_files import save_adapters
from tests.analysis.judged_runs import altered
from tests.experiment.test_rounds import Page, small_models  # noqa: F401
from tests.signing import sign

NER, RELATIONS = "semeval2014t7", "semeval2021t6"
SETTINGS = ("practice.documents=8", "practice.terms=20", "training.selection=last", "training.epochs=0.5")
SINGLE = ("strategy.rank=25",)  # as many as 16 shared and 8 private with their fusion

DISEASE = ComponentSpec("ner", Kind.TOKENS, 1, ("Disease",))
ABSTRACT = """10|t|Aspirin and rash
10|a|Aspirin causes rash.
10\t0\t7\tAspirin\tChemical\tD001241
10\t12\t16\trash\tDisease\tD005076
10\t17\t24\tAspirin\tChemical\tD001241
10\t32\t36\trash\tDisease\tD005076
10\tCID\tD001241\tD005076

"""


@dataclass
class Pair:
    folder: object
    multi: RunFolder
    single: RunFolder

    @property
    def runs(self) -> list[RunFolder]:
        return [self.multi, self.single]


def trained(folder, strategy: str, *tasks: str, more: tuple[str, ...] = ()) -> RunFolder:
    config = compose(task=list(tasks), strategy=strategy, overrides=[*SETTINGS, *more], seed=3)
    study = Page(config, start_run(config, page=strategy, runs_dir=folder))
    trainer = study.trainer()
    training_session.train(study, trainer)
    generator = torch.Generator().manual_seed(1)
    for parameter in study.model.heads.parameters():  # heads that find much, right or wrong, at no cost
        parameter.data.normal_(generator=generator)
    study.record(trainer)
    scoring.save_concepts(study)
    save_adapters(study.model, study.run.adapters)  # with the thresholds that were chosen on dev
    sign(study.run)
    return study.run


@pytest.fixture(scope="module")
def pair(tmp_path_factory, small_models) -> Pair:  # noqa: F811
    folder = tmp_path_factory.mktemp("runs")
    multi = trained(folder, "s3a_flat", NER, RELATIONS)
    manifest = multi.manifest()
    tokens = sum(manifest["totals"]["tokens"].values())
    single = trained(folder, "s1_single", NER, more=(*SINGLE, f"training.target_tokens={tokens}"))
    altered(single, "optimiser_steps", manifest["optimiser_steps"])  # which its own page makes equal
    return Pair(folder, multi, single)


def asked(*more: str):
    return compose(task=NER, overrides=["experiment=ood", "experiment.practice={terms: 40}", *more], seed=3)


def test_a_reloaded_run_predicts_to_the_letter_what_the_run_predicted(pair):
    for run in pair.runs:
        again = load_trained_run(run)
        for task in run.facts["tasks"]:
            predicted = again.predict_samples(task, again.samples("dev")[task])
            stored = (run.predictions / f"{task}.dev.jsonl").read_text()
            assert "".join(map(prediction_line, predicted)) == stored
            assert assert_reproduced(again, task) == ood_primary(run, task)
        assert any(sample.mentions for sample in predicted)


def ood_primary(run: RunFolder, task: str) -> float:
    name = run.config()["tasks"][task]["primary_metric"]
    return next(m.value for m in run.metrics() if (m.task, m.name, m.split) == (task, name, "dev"))


def test_adapters_that_are_not_those_scored_are_refused(pair, tmp_path):
    changed = RunFolder.open(copied(pair.single, tmp_path))
    heads = load_file(changed.adapters / "heads.safetensors")
    save_file({name: tensor * 0 for name, tensor in heads.items()}, changed.adapters / "heads.safetensors")
    with pytest.raises(RunFolderError, match=r"adapters/heads\.safetensors edited"):
        load_trained_run(changed)
    sign(changed)
    with pytest.raises(RunFolderError, match="its adapters are not those scored"):
        assert_reproduced(load_trained_run(changed), NER)


def test_a_corpus_that_has_changed_since_is_refused(pair, tmp_path):
    path = copied(pair.single, tmp_path)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["data_hashes"][NER] = "other"
    sign(RunFolder(path), manifest)
    with pytest.raises(ConfigError, match=f"data_hashes.{NER}"):
        load_trained_run(RunFolder.open(path)).corpora  # noqa: B018


def copied(run: RunFolder, folder):
    return shutil.copytree(run.path, folder / run.run_id)


def test_each_arm_is_scored_in_and_out_of_distribution(pair, tmp_path):
    config = asked(f"experiment.runs=[{pair.multi.run_id},{pair.single.run_id}]")
    folders = comparable_arms(config, pair.folder)
    assert [folder.run_id for folder in folders] == [run.run_id for run in pair.runs]
    entry = ood.held_out_task(config, folders)
    run = start_run(config, page="ood", runs_dir=tmp_path, also=[entry])
    arms = [load_trained_run(folder) for folder in folders]
    held_out = ood.open_held_out(config, arms)
    results = [ood.evaluate_arm(run, arm, held_out) for arm in arms]
    run.write_metrics(ood.metrics_by_arm(results))
    ood.record(run, arms, results, held_out)

    manifest, figures = run.manifest(), {metric.name: metric.value for metric in run.metrics()}
    for folder, result, facts in zip(folders, results, manifest["arms"], strict=True):
        name = folder.run_id
        assert result.inside == ood_primary(folder, NER) > 0.01
        assert figures[f"{name}:task_a_strict_f1"] == result.outside
        assert figures[f"{name}:drop"] == pytest.approx(result.inside - result.outside)
        assert facts["run_id"] == name and facts["drop"] == pytest.approx(figures[f"{name}:drop"])
        documents = RunFolder(run.path / "arms" / name).read_documents(NER, "ood")
        _, sums = document_table(documents)
        assert figure(sums.sum(axis=0)) == pytest.approx(result.outside)
        assert len(documents) == len(held_out.samples)
    assert manifest["held_out"] == {"corpus": NER, "split": "test"}
    assert manifest["flags"]["practice"] and manifest["totals"]["tokens"] == {}
    table = ood.arm_table(run, results, resamples=50)
    assert list(table["arm"]) == ["s3a_flat on 2 tasks", "s1_single on 1 task"]
    assert list(table["drop"]) == [r.inside - r.outside for r in results]
    assert (table["low"] < table["drop"]).all() and (table["drop"] < table["high"]).all()


def test_the_default_shift_leaves_half_of_the_words_known_with_the_class_they_had():
    smoke = compose(task=NER).practice
    shifted = replace(smoke, **compose(task=NER, experiment="ood").experiment["practice"])
    known, all_ = (practice.planted(settings).class_of(NER) for settings in (smoke, shifted))
    assert len(known) * 2 == len(all_)
    assert known.items() <= all_.items()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "bert"),
        ("profile", "open"),
        ("seed", 7),
        ("device", "cuda"),
        ("totals", {"tokens": {NER: 999_999}}),
        ("optimiser_steps", 1),
        ("selection", {"rule": "last", "split": None, "metric": "loss"}),
        ("tuning", {"trials": 9, "split": None}),
        ("data_hashes", {NER: "other"}),
        ("left_out", {NER: ["note"]}),
        ("active_parameters", {NER: 1}),
    ],
)
def test_runs_that_differ_in_what_is_held_fixed_are_refused_by_the_fields_name(pair, field, value):
    multi, single = (Entry.of(run) for run in pair.runs)
    assert_arms(asked(), [multi, single])
    with pytest.raises(IncomparableRuns, match=f"^{field}"):
        assert_arms(asked(), [multi, replace(single, manifest=single.manifest | {field: value})])


def test_a_multi_task_and_a_single_task_run_of_the_task_are_both_needed(pair):
    multi, single = (Entry.of(run) for run in pair.runs)
    for runs in ([multi], [single], [single, single]):
        with pytest.raises(ConfigError, match="takes multi-task runs and as many single-task ones"):
            assert_arms(asked(), runs)
    with pytest.raises(ConfigError, match="tasks of .* is none of them"):
        assert_arms(asked(), [multi, replace(single, manifest=single.manifest | {"tasks": [RELATIONS]})])


def test_without_named_runs_the_newest_pair_is_taken_and_a_real_profile_is_told_how_to_make_one(
    pair, tmp_path, monkeypatch
):
    for run in pair.runs:
        copied(run, tmp_path)
    path = tmp_path / pair.single.run_id
    first, rest = (path / "config.yaml").read_text().split("\n", 1)
    (path / "config.yaml").write_text(
        first.replace('"page": "s1_single"', '"page": "token_controlled"') + "\n" + rest
    )
    manifest = json.loads((path / "manifest.json").read_text())
    twin = {"of": pair.multi.run_id, "control": "total"}
    sign(RunFolder(path), manifest | {"page": "token_controlled", "twin": twin})
    found = comparable_arms(asked(), tmp_path)
    assert [run.run_id for run in found] == [pair.multi.run_id, pair.single.run_id]

    monkeypatch.setattr(
        arms_module, "run_page", lambda *args, **options: pytest.fail("nothing may be trained")
    )
    real = compose(model="minilm", task="ncbi_disease", profile="open", overrides=["experiment=ood"])
    with pytest.raises(ConfigError, match="holds no pair for ncbi_disease; train a multi-task run, then"):
        comparable_arms(real, tmp_path)


def test_in_a_kaggle_session_the_arms_are_found_where_another_kernel_left_them(pair, tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    monkeypatch.setattr("kaggle_kit.core.artifacts.KAGGLE_INPUT", pair.folder)
    config = asked(f"experiment.runs=[{pair.multi.run_id},{pair.single.run_id}]")
    assert comparable_arms(config, tmp_path / "working") == pair.runs


def test_a_run_that_reports_test_is_judged_there(tmp_path):
    run = trained(tmp_path, "s1_single", NER, more=("profile.report=[test]",))
    again = load_trained_run(run)
    figures = {metric.split: metric.value for metric in run.metrics() if metric.name == "task_a_strict_f1"}
    assert judged_split(again) == "test" and assert_reproduced(again, NER) == figures["test"]


def test_without_its_experiment_nothing_is_trained_or_loaded():
    with pytest.raises(ConfigError, match="add experiment=ood"):
        ood.check(compose(task=NER))
    with pytest.raises(ConfigError, match="on practice data the held-out corpus is another"):
        ood.check(asked("experiment.practice=null"))
    ood.check(asked())


def real_arm(*train: str) -> SimpleNamespace:
    """As much of a reloaded run on ncbi_disease as opening a held-out corpus looks at."""
    samples = tuple(UnifiedSample(f"t{n}", text, "train", Access.PUBLIC) for n, text in enumerate(train))
    return SimpleNamespace(
        run=SimpleNamespace(run_id="multi", facts={"tasks": ["ncbi_disease", "ddi2013"]}),
        specs={"ncbi_disease": TaskSpec("ncbi_disease", (DISEASE,))},
        corpora={"ncbi_disease": SimpleNamespace(splits={"train": samples})},
    )


@pytest.fixture
def cdr(tmp_path, monkeypatch):
    (tmp_path / "CDR_TestSet.PubTator.txt").write_text(ABSTRACT)
    monkeypatch.setenv("KAGGLE_KIT_BC5CDR", str(tmp_path))


def on_cdr(*more: str):
    overrides = ["experiment=ood", "experiment.corpus=bc5cdr", *more]
    return compose(model="minilm", task="ncbi_disease", profile="open", overrides=overrides)


def test_another_corpus_is_read_in_the_labels_of_the_runs(cdr):
    held_out = ood.open_held_out(on_cdr("experiment.types={Disease: Disease}"), [real_arm("Aspirin helps.")])
    (sample,) = held_out.samples
    assert [(m.fragments, m.type) for m in sample.mentions] == [
        (((12, 16),), "Disease"),
        (((32, 36),), "Disease"),
    ]
    assert sample.relations == () and held_out.labels == {"Disease": "Disease"}
    assert (held_out.entry.name, held_out.split) == ("bc5cdr", "test")


def test_a_type_without_a_label_is_refused(cdr):
    with pytest.raises(ConfigError, match="has mentions of Chemical, the runs know Disease; say by"):
        ood.open_held_out(on_cdr(), [real_arm()])


def test_a_document_that_an_arm_was_trained_on_is_refused_whatever_its_id(cdr):
    seen = "Aspirin and rash\nAspirin causes rash."
    config = on_cdr("experiment.types={Disease: Disease}")
    text = ood.open_held_out(config, [real_arm()]).samples[0].text
    assert text.split() == seen.split()
    with pytest.raises(ConfigError, match="document 10: multi was trained on its text, in ncbi_disease"):
        ood.open_held_out(config, [real_arm(text)])


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (lambda: on_cdr("experiment.corpus=null"), "experiment.corpus is empty"),
        (lambda: on_cdr("experiment.corpus=ddi2013"), "multi was trained on it"),
        (lambda: on_cdr("experiment.corpus=semeval2014t7"), "is restricted"),
        (lambda: on_cdr("experiment.corpus=semeval2017t3"), "not of a kind"),
        (lambda: asked("experiment.corpus=bc5cdr"), "on practice data the held-out corpus is another"),
        (lambda: asked("experiment.practice=null"), "on practice data the held-out corpus is another"),
    ],
)
def test_a_held_out_corpus_that_is_none_is_refused(config, told, monkeypatch, tmp_path):
    monkeypatch.setenv("KAGGLE_KIT_SEMEVAL2017T3", str(tmp_path))
    with pytest.raises(ConfigError, match=told):
        entry = ood.held_out_task(config(), [real_arm().run])
        ood._spec_of(real_arm().specs["ncbi_disease"], entry)


def test_mentions_that_do_not_count_go_with_their_relations():
    drug, rash = Mention("T1", ((0, 7),), "Chemical"), Mention("T2", ((12, 16),), "Disease")
    sample = UnifiedSample(
        "d", "Aspirin and rash", "test", Access.PUBLIC, (drug, rash), (Relation("R1", "CID", "T1", "T2"),)
    )
    renamed = ood.relabelled(sample, {"Disease": "Disorder"})
    assert renamed.mentions == (replace(rash, type="Disorder"),) and renamed.relations == ()
    assert ood.relabelled(sample, {}) is sample
    kept = ood.relabelled(sample, {"Disease": "Disease"})
    assert kept.mentions == (rash,) and kept.relations == ()


def test_a_restricted_held_out_corpus_marks_the_run():
    config = compose(task="ncbi_disease", profile="t4")
    assert not run_flags(config)["restricted"]
    assert run_flags(config, [registry.task(NER)])["restricted"]
