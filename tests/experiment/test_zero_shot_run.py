"""Zero-shot runs: written like any run, read like any run, and comparable with none that was trained."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from kaggle_kit.analysis.comparability import QUESTIONS, assert_comparable
from kaggle_kit.analysis.overview import arm_of, overview_table
from kaggle_kit.analysis.verdict_inputs import Entry, find_arms
from kaggle_kit.core.artifacts import find_runs, read_predictions
from kaggle_kit.core.config import compose, config_hash
from kaggle_kit.core.errors import ConfigError, IncomparableRuns
from kaggle_kit.data.practice import generate
from kaggle_kit.evaluation import api_ledger
from kaggle_kit.evaluation.api_prices import RestrictedText
from kaggle_kit.evaluation.local_reader import TOO_LONG, LocalReader
from kaggle_kit.evaluation.zero_shot import Answer, askable, perfect_answer
from kaggle_kit.experiment import finished_runs, zero_shot_run
from kaggle_kit.experiment.experiment import Experiment
from tests.analysis.judged_runs import Factory
from tests.experiment.chat_service import Service, completion
from tests.experiment.test_rounds import RANKING, small_models  # noqa: F401

NER, BOTH = "semeval2014t7", "semeval2021t6"
SMALL = ("experiment=zero_shot", "experiment.max_output=8", "practice.documents=6", "practice.terms=20")
FREE = ("experiment.prices={input_usd: 0, output_usd: 0}",)


def opened(folder, task=BOTH, *more: str) -> Experiment:
    options = {"task": task, "overrides": [*SMALL, *more], "runs_dir": folder / "runs"}
    return Experiment.open("zero_shot", **options, settle=zero_shot_run.settle)


class Perfect:
    """A model that knows the answer to every prompt of a run."""

    def __init__(self, exp: Experiment, task: str) -> None:
        spec, _ = askable(exp.specs[task])
        self.answers = [Answer(perfect_answer(spec, one)) for one in exp.samples("dev")[task]]

    def __call__(self, prompts):
        assert len(prompts) == len(self.answers)
        return self.answers


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A finished run of a tiny local decoder, with its reader and counts."""
    folder = tmp_path_factory.mktemp("local")
    exp = opened(folder)
    reader = zero_shot_run.open_reader(exp)
    counts = zero_shot_run.evaluate(exp, reader)
    zero_shot_run.finish(exp, reader, counts, seconds=1.5)
    return exp, reader, counts


def test_a_local_decoder_leaves_a_finished_run_like_any_other(local):
    exp, reader, counts = local
    (run,) = find_runs(exp.run.path.parent)
    run.verify()
    manifest, gold = run.manifest(), exp.samples("dev")[BOTH]
    assert isinstance(reader, LocalReader) and manifest["device"] == "cpu"
    assert manifest["totals"] == {
        "tokens": {},
        "trainable_parameters": 0,
        "seconds": 1.5,
        "computed_tokens": {},
    }
    assert manifest["flags"] == {"smoke": True, "practice": True, "restricted": False}
    assert manifest["zero_shot"] == {"answers": counts, "requests": {}}
    assert counts[BOTH]["dev"]["documents"] == len(gold) == len(run.read_documents(BOTH, "dev"))
    assert [one.document_id for one in read_predictions(run, BOTH, "dev")] == [
        one.document_id for one in gold
    ]
    assert sorted(path.name for path in run.official(BOTH).iterdir()) == ["gold", "pred"]
    assert {metric.name for metric in run.metrics()} >= {"entity_f1", "relation_f1"}


def test_an_answer_is_the_greedy_continuation_of_its_prompt_whatever_is_read_beside_it(local):
    """Against a loop over single tokens, of a model whose random weights are large enough to talk."""
    exp, reader, _ = local
    model, (spec, _) = copy.deepcopy(reader.model), askable(exp.specs[BOTH])
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.5, generator=generator)
    loud = LocalReader(model, reader.tokenizer, reader.max_output)
    prompts = [zero_shot_run.prompt_for(spec, one) for one in exp.samples("dev")[BOTH]]
    expected = []
    for prompt in prompts:
        text = "\n\n".join(message["content"] for message in prompt.messages) + "\n\nAnswer: "
        ids = reader.tokenizer(text)["input_ids"]
        start = len(ids)
        for _ in range(reader.max_output):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        expected.append(reader.tokenizer.decode(ids[start:], skip_special_tokens=True))
    assert len(set(expected)) > 1 and [answer.text for answer in loud(prompts)] == expected


def test_a_prompt_that_leaves_no_room_is_counted_and_not_cut(local):
    exp, reader, _ = local
    spec, _ = askable(exp.specs[BOTH])
    prompt = zero_shot_run.prompt_for(spec, exp.samples("dev")[BOTH][0])
    greedy = LocalReader(reader.model, reader.tokenizer, reader.model.config.max_position_embeddings)
    assert greedy([prompt]) == [Answer(None, TOO_LONG)]


def test_a_perfect_answer_reaches_the_ceiling_and_its_errors_are_none(tmp_path):
    exp = opened(tmp_path)
    counts = zero_shot_run.evaluate(exp, Perfect(exp, BOTH))
    scores = {metric.name: metric.value for metric in exp.metrics}
    assert scores == pytest.approx(zero_shot_run.ceiling(exp, "dev"))
    assert scores["entity_f1"] > 0.98 and scores["relation_f1"] > 0.8
    assert set(counts[BOTH]["dev"]) <= {"documents", "mentions", "relations", "mentions not in the text"}
    zero_shot_run.finish(exp, Perfect(exp, BOTH), counts)
    run = finished_runs.opened(exp.run)
    errors = finished_runs.errors_of(run, BOTH, *finished_runs.judged(run, BOTH, "dev"))["mentions"]
    assert len(errors.cases) > 20 and {case.category for case in errors.cases} == {"correct"}


def test_a_perfect_rating_has_map_1(tmp_path):
    exp = opened(tmp_path, RANKING)
    zero_shot_run.evaluate(exp, Perfect(exp, RANKING))
    assert {m.name: m.value for m in exp.metrics}["map"] == 1


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_question_compares_it_with_a_trained_run(local, tmp_path, question):
    exp, _, _ = local
    trained = Factory(tmp_path).multi_task(1)
    arms = {"zero-shot": [Entry.of(exp.run)], "trained": [Entry.of(trained)]}
    with pytest.raises(IncomparableRuns, match=r"selection\.rule: 'untrained'"):
        assert_comparable(question, arms, [BOTH], "dev")


def test_a_verdict_over_its_folder_does_not_see_it(local, tmp_path):
    exp, _, _ = local
    folder = Factory(tmp_path).study(seeds=(1, 2))
    alone = find_arms(find_runs(folder))
    beside = find_arms([*find_runs(folder), exp.run])
    assert [one.id for one in beside.entries()] == [one.id for one in alone.entries()]


def test_the_overview_lists_it_by_its_own_strategy_and_no_page_takes_it_for_a_trained_one(local, monkeypatch):
    exp, _, _ = local
    table = overview_table([exp.run])
    assert set(table["arm"]) == {"zero_shot"} == {arm_of(exp.run.manifest())}
    assert table["parameters"].tolist() == [0]
    asked = []
    monkeypatch.setattr(finished_runs, "run_page", lambda page, **_: asked.append(page) or exp.run.path)
    finished_runs.practice_run(exp.run.path.parent)
    assert asked == [finished_runs.FIRST], "a run with a model is trained instead"


def test_only_the_experiment_of_the_page_makes_such_a_run(tmp_path):
    with pytest.raises(ConfigError, match="takes experiment=zero_shot"):
        zero_shot_run.settle(compose(task=BOTH))
    with pytest.raises(ConfigError, match="page zero_shot"):
        Experiment.open("s1_single_task", task=BOTH, overrides=["experiment=zero_shot"], runs_dir=tmp_path)


def test_how_an_api_is_paid_is_no_part_of_the_configuration_and_the_model_is():
    def hashed(*more):
        return config_hash(compose(task=BOTH, overrides=["experiment=zero_shot", *more]))

    paid = ["experiment.most_usd=9", "experiment.parallel=1", "experiment.batches=true", *FREE]
    assert hashed(*paid) == hashed()
    assert hashed("experiment.api_model=m") != hashed() != hashed("experiment.max_output=9")


# --- behind an API ---------------------------------------------------------------------------------


@pytest.fixture
def service(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(api_ledger.PLACE, str(tmp_path / "ledger.json"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with Service() as one:
        yield one


def behind(service, *more: str) -> tuple[str, ...]:
    prices = "experiment.prices={input_usd: 1, output_usd: 2}"
    return ("experiment.api_model=my-model", f"experiment.base_url={service.url}", prices, *more)


def test_an_api_writes_the_same_run_and_a_second_one_sends_nothing(service, tmp_path):
    item = {"id": "m1", "text": "invented", "type": "Drug"}
    said = json.dumps({"mentions": [item, item | {"id": "m2"}], "relations": []})
    service.answer = lambda request: (200, json.dumps(completion(said)).encode(), {})
    runs = []
    for _ in range(2):
        exp = opened(tmp_path, BOTH, *behind(service))
        reader = zero_shot_run.open_reader(exp)
        zero_shot_run.finish(exp, reader, zero_shot_run.evaluate(exp, reader))
        runs.append(exp.run)
    number = len(exp.samples("dev")[BOTH])
    assert len(service.requests) == number
    first, second = (run.manifest() for run in runs)
    assert first["zero_shot"]["answers"] == second["zero_shot"]["answers"]
    assert first["zero_shot"]["answers"][BOTH]["dev"]["mentions not in the text"] == number
    asked, kept = (one["zero_shot"]["requests"] for one in (first, second))
    assert asked["requests"] == number == kept["from_cache"] and "requests" not in kept
    assert asked["usd_of_this_run"] == pytest.approx(number * 0.00014)
    assert kept["usd_of_this_run"] == 0 and kept["usd_of_all_runs"] == asked["usd_of_this_run"]
    assert (first["model"], first["device"], asked["host"]) == ("my-model", "api", "127.0.0.1")
    assert [one.mentions for one in read_predictions(runs[0], BOTH, "dev")][0][0].type == "Drug"


def test_a_restricted_corpus_is_refused_before_anything_is_sent_or_written(service, tmp_path):
    """Practice notes without their checksums: nobody can tell them from real ones."""
    exp = opened(tmp_path)
    generate(tmp_path / "notes", exp.config.practice, tasks=[NER])
    for marker in (tmp_path / "notes").rglob("practice.json"):
        marker.unlink()
    real = (f"tasks.{NER}.path={tmp_path / 'notes' / NER}", "profile.corpora=any")
    exp = opened(tmp_path, NER, *real, *behind(service))
    with pytest.raises(RestrictedText, match=f"{NER} is restricted"):
        zero_shot_run.open_reader(exp)
    assert service.requests == [] and not (tmp_path / "ledger.json").exists()
    assert not (tmp_path / "cache" / "api").exists()
    allowed = zero_shot_run.open_reader(opened(tmp_path, NER, *real))
    assert isinstance(allowed, LocalReader), "a local decoder may read it"
