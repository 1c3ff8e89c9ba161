"""A shared folder finds what its run finds, where only torch, transformers, peft and safetensors are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
import yaml
from packaging.requirements import Requirement
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModel
from typer.testing import CliRunner

from kaggle_kit.analysis.reproduction import interval
from kaggle_kit.analysis.verdict import no_verdict, write_verdict
from kaggle_kit.cli.app import app
from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import ConfigError, RunFolderError
from kaggle_kit.core.records import sha256_of
from kaggle_kit.data.formats.jsonl import files
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.load_trained_run import load_trained_run
from kaggle_kit.export import folder as exporting
from kaggle_kit.export.card import Terms
from kaggle_kit.export.folder import export_run
from kaggle_kit.export.predict import load
from kaggle_kit.models import tiny
from tests.experiment.test_rounds import small_models  # noqa: F401
from tests.signing import sign

TOKENS, SPANS, RELATIONS, RANKING = "semeval2014t7", "semeval2015t14", "semeval2021t6", "semeval2017t3"
WHOLE = "s2_shared"  # of which the whole backbone trains
RUNS = {
    WHOLE: f"{TOKENS},{RANKING}",
    "s1_single": f"{TOKENS}",
    "s3a_flat": f"{SPANS},{RELATIONS},{RANKING}",
    "s3b_hierarchical": f"{TOKENS},{RELATIONS}",
}
PAGES = {"s1_single": "s1_single_task", WHOLE: "encoder_baselines"}
# As stock PEFT reads a decoder; and without adapters.
MORE = {"s1_single": ["strategy.attention=causal"], WHOLE: ["training.full_finetuning=true"]}
QUICK = ["training.max_steps=4", "profile.max_train_samples=12", "profile.max_dev_samples=4"]
FOUND = """
import json, sys
sys.path.insert(0, sys.argv[1])
from predict import load
from kaggle_kit.data.formats.jsonl import files
read = load(sys.argv[1])
asked = json.load(open("asked.json"))
lines = {task: [of for one in read(texts, task) for _, of in files([one])] for task, texts in asked.items()}
sys.stdout.write(json.dumps({task: [json.loads(line) for line, in of] for task, of in lines.items()}))
"""
ALLOWED = ("torch", "transformers", "peft", "safetensors")


@pytest.fixture(scope="module")
def exported(tmp_path_factory, small_models) -> Iterator[dict[str, tuple[Experiment, Path]]]:  # noqa: F811
    """Strategy -> the run, whose heads find something, and its shared folder."""
    place, found = tmp_path_factory.mktemp("shared"), {}
    build = tiny.build_tiny
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(exporting, "build_tiny", lambda name, texts: build(name, texts, steps=0))
        for strategy, tasks in RUNS.items():
            page = PAGES.get(strategy, strategy)
            exp = Experiment.open(
                page,
                task=tasks,
                strategy=strategy,
                overrides=QUICK + MORE.get(strategy, []),
                runs_dir=place / "runs",
            )
            exp.train()
            for name, parameter in exp.model.named_parameters():
                if parameter.requires_grad and not (strategy == WHOLE and name.startswith("lora.")):
                    parameter.data.normal_(0.3 if name.endswith("bias") else 0.0, 0.5)
            exp.evaluate()
            exp.finish()
            found[strategy] = exp, export_run(exp.run, place / strategy, Terms())
        yield found


@pytest.fixture
def changed(exported, tmp_path):
    """A function that copies a run, changes the flags of its manifest and its access, and signs it anew."""

    def change(strategy: str, flags: dict | None = None, access: str | None = None) -> RunFolder:
        path = exported[strategy][0].run.path
        run = RunFolder.open(shutil.copytree(path, tmp_path / path.name))
        if access:
            tasks = run.adapters / "tasks.json"
            held = {name: spec | {"access": access} for name, spec in json.loads(tasks.read_text()).items()}
            tasks.write_text(json.dumps(held))
        sign(run, run.manifest() | ({} if flags is None else {"flags": flags}))
        return run

    return change


@pytest.fixture(scope="module")
def clean_site(tmp_path_factory) -> Path:
    """A folder of links to the allowed packages and to those that they ask for."""
    site, names, todo = tmp_path_factory.mktemp("site"), set(), list(ALLOWED)
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in names:
            continue
        names.add(name)
        wanted = [Requirement(line) for line in distribution(name).requires or ()]
        todo += [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    assert not {"scikit-learn", "pandas", "scipy", "omegaconf", "hydra-core", "datasets"} & names
    for name in names:
        of = distribution(name)
        for top in {file.parts[0] for file in of.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).exists():
                (site / top).symlink_to(of.locate_file(top))
    return site


def questions(exp: Experiment, task: str) -> list[dict]:
    """The development samples without their annotations, as the JSONL format has them."""
    return [
        {"id": s.document_id, "text": s.text}
        | ({"candidates": [{"id": p.candidate_id, "text": p.text} for p in s.pairs]} if s.pairs else {})
        for s in exp.samples("dev")[task]
    ]


def lines(samples, concepts: bool = True) -> list[dict]:
    """What a model finds, as JSON."""
    found = [json.loads(line) for sample in samples for _, of in files([sample]) for line in of]
    for mention in (one for record in found for one in record.get("mentions", ())):
        if not concepts:
            mention.pop("concepts", None)
    return found


@pytest.fixture
def in_a_clean_environment(clean_site, tmp_path):
    """Run Python there, without its site folder, and return what it did."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        variables = {"PYTHONPATH": str(clean_site), "PATH": "", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-S", *words]
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done

    return run


def test_predict_py_finds_in_a_clean_environment_what_the_run_finds(
    exported, in_a_clean_environment, tmp_path
):
    exp, folder = exported["s1_single"]
    asked = questions(exp, TOKENS)
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked))
    done = in_a_clean_environment(str(folder / "predict.py"), "notes.jsonl")
    expected = lines(load_trained_run(exp.run).predict(asked), concepts=False)
    assert any("mentions" in record for record in expected)
    assert [json.loads(line) for line in done.stdout.splitlines()] == expected
    assert "take scikit-learn" in done.stderr  # the practice notes give concepts


@pytest.mark.parametrize("strategy", ["s3a_flat", "s3b_hierarchical", WHOLE])
def test_several_tasks_find_there_what_the_run_finds(exported, in_a_clean_environment, tmp_path, strategy):
    exp, folder = exported[strategy]
    asked = {task: questions(exp, task) for task in exp.specs}
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    (tmp_path / "found.py").write_text(FOUND)
    done = in_a_clean_environment("found.py", str(folder))
    trained, told = load_trained_run(exp.run), json.loads(done.stdout)
    for task, texts in asked.items():
        expected = lines(trained.predict(texts, task), concepts=False)
        assert any(len(record) > 1 for record in expected)
        assert told[task] == expected


def test_where_scikit_learn_is_mentions_get_their_concepts(exported):
    exp, folder = exported["s3a_flat"]
    asked = questions(exp, SPANS)
    found, expected = (
        lines(read(asked, SPANS)) for read in (load(folder), load_trained_run(exp.run).predict)
    )
    assert found == expected and any(m.get("concepts") for one in found for m in one.get("mentions", ()))


def test_stock_peft_reads_with_a_plain_adapter_what_the_heads_of_the_run_read(exported):
    exp, folder = exported["s1_single"]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Unexpected keyword|.*missing adapter keys")
        stock = PeftModel.from_pretrained(
            AutoModel.from_pretrained(folder / "backbone"), folder / "adapters" / "single"
        ).eval()
    batch = exp.batches("dev", 1)[TOKENS][0]
    model = load_trained_run(exp.run).model
    with torch.inference_mode():
        mine = model.encode(batch).split(batch.lengths)
        for ids, states in zip(batch.input_ids.split(batch.lengths), mine, strict=True):
            theirs = stock(input_ids=ids[None]).last_hidden_state[0]
            torch.testing.assert_close(theirs, states, rtol=1e-4, atol=1e-4)


def test_a_whole_model_lies_in_its_folder_says_so_and_is_read_by_the_library_alone(exported):
    exp, folder = exported[WHOLE]
    assert not (folder / "backbone").exists()
    card = (folder / "README.md").read_text()
    assert "A whole model: backbone and heads were trained together, in float32" in card
    assert (
        "LoRA" not in card and "--model" not in card and "`adapters/backbone` is the trained backbone" in card
    )
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["library_name"] == "transformers" and "lora" not in head["tags"]
    stock = dict(AutoModel.from_pretrained(folder / "adapters" / "backbone").named_parameters())
    trained = exp.model.lora.whole
    assert stock.keys() == trained.keys() and all(torch.equal(stock[n], trained[n].cpu()) for n in trained)


def test_stock_peft_is_told_that_a_fused_adapter_is_not_the_model(exported):
    exp, folder = exported["s3a_flat"]
    with pytest.warns(UserWarning, match="alone_this_adapter_is_not_the_model_see_README"):
        stock = PeftModel.from_pretrained(
            AutoModel.from_pretrained(folder / "backbone"), folder / "adapters" / "shared"
        )
    held = load_file(exp.run.adapters / "shared" / "adapter_model.safetensors")
    loaded = get_peft_model_state_dict(stock)
    assert held.keys() == loaded.keys() and all(torch.equal(held[name], loaded[name]) for name in held)
    assert "**No adapter is the model alone.**" in (folder / "README.md").read_text()


def test_the_folder_names_no_place_of_this_machine_and_needs_its_backbone_named(exported, tmp_path):
    exp, folder = exported["s1_single"]
    texts = [path.read_text() for path in folder.rglob("*") if path.suffix in (".json", ".md")]
    assert not any(str(exp.run.path.parent) in text or "/cache/" in text for text in texts)
    copy = shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("kaggle_kit"))
    (copy / "backbone").rename(tmp_path / "weights")
    with pytest.raises(ConfigError, match="came from a folder and is on no hub; give that folder"):
        load(copy)
    assert list(load(copy, model=str(tmp_path / "weights"))([""]))


def test_the_card_of_a_practice_run_is_marked_and_holds_no_result_for_the_hub(exported):
    exp, folder = exported["s3a_flat"]
    _, head, text = (folder / "README.md").read_text().split("---\n", 2)
    assert "model-index" not in yaml.safe_load(head) and "practice" in yaml.safe_load(head)["tags"]
    assert "# NOT A RESULT (smoke and practice run): semeval2015t14, semeval2021t6, semeval2017t3 by" in text
    assert "Trained on invented practice notes" in text and "Restricted text" not in text
    for task, tokens in exp.run.manifest()["totals"]["tokens"].items():
        assert f"| {task} | {tokens:,} |" in text
    for metric in exp.run.metrics():
        if metric.name == exp.config.tasks[metric.task].primary_metric:
            assert f"| {metric.task} | dev | {metric.name} | {metric.value:.4f} | " in text


def test_the_card_of_a_result_tells_the_hub_its_scores(changed, tmp_path):
    run = changed("s1_single", flags={}, access="public")
    head = export_run(run, tmp_path / "out", Terms()).joinpath("README.md").read_text().split("---\n")[1]
    (held,) = yaml.safe_load(head)["model-index"][0]["results"][:1]
    wanted = next(m for m in run.metrics() if m.name == "task_a_strict_f1")
    assert held["metrics"][0]["value"] == round(wanted.value, 4) and held["dataset"]["split"] == "dev"


def test_an_interval_is_that_of_documents_drawn_with_replacement(changed):
    run = changed("s1_single")
    counts = [{"tp": 1, "fp": 0, "fn": 0}, {"tp": 0, "fp": 1, "fn": 1}]
    run.write_documents(TOKENS, "dev", ({"document": f"{n}", **counts[n % 2]} for n in range(40)))
    low, high, documents = interval(run, TOKENS, "dev")
    # F1 is the share of good documents: binomial of 40 at one half, with a standard error of .079
    assert documents == 40 and low == pytest.approx(0.5 - 1.96 * 0.079, abs=0.03)
    assert high == pytest.approx(0.5 + 1.96 * 0.079, abs=0.03)


def test_restricted_runs_go_out_by_their_owners_word_alone_and_without_their_concepts(changed, tmp_path):
    run = changed("s1_single", flags={"restricted": True}, access="restricted")
    with pytest.raises(ConfigError, match="trained on restricted text .* --agreement"):
        export_run(run, tmp_path / "out", Terms(agreement=" "))
    out = export_run(run, tmp_path / "out", Terms(agreement="Clause 7 of the agreement."))
    assert "Clause 7 of the agreement." in (out / "README.md").read_text()
    assert json.loads((run.adapters / "concepts.json").read_text())[TOKENS]
    assert json.loads((out / "adapters" / "concepts.json").read_text()) == {TOKENS: {}}


def test_edited_and_unfinished_runs_and_taken_folders_are_refused(changed, exported, tmp_path):
    run = changed("s1_single")
    with pytest.raises(ConfigError, match="not an empty folder"):
        export_run(run, exported["s1_single"][1], Terms())
    (run.adapters / "tasks.json").write_text("{}")
    with pytest.raises(RunFolderError, match=r"adapters/tasks.json edited"):
        export_run(run, tmp_path / "out", Terms())
    run.manifest_json.unlink()
    told = CliRunner().invoke(app, ["export", str(run.path), "--out", str(tmp_path / "out")])
    assert told.exit_code == 2 and "unfinished" in told.stderr and not (tmp_path / "out").exists()


def test_a_verdict_stands_in_the_card_of_the_runs_that_it_judges(exported, tmp_path):
    exp, _ = exported["s1_single"]
    judged = {"run_id": exp.run.run_id, "sha256": {"manifest.json": sha256_of(exp.run.manifest_json)}}
    document = no_verdict("there is one seed") | {"inputs": [judged]}
    verdict = write_verdict(document, tmp_path / "verdict.json")
    words = ["export", str(exp.run.path), "--out", str(tmp_path / "out"), "--verdict", str(verdict)]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    assert "**undecided**" in (tmp_path / "out" / "README.md").read_text()
    with pytest.raises(ConfigError, match="does not judge"):
        export_run(exported["s3a_flat"][0].run, tmp_path / "other", Terms(verdict))


class Hub:
    """Stands in for the hub's client, and keeps what it was told."""

    def __init__(self, token: str) -> None:
        self.calls.append(("token", token))

    calls: ClassVar[list] = []
    private: ClassVar[bool] = True

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> str:
        self.calls.append(("create", name, private))
        return f"hub/{name}"

    def model_info(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(private=self.private)

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        self.calls.append(("upload", repo_id, sorted(path.name for path in folder_path.iterdir())))


def test_a_push_is_private_and_takes_a_token(exported, monkeypatch):
    exp, folder = exported["s1_single"]
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(Hub, "calls", [])
    words = ["hub", "push", str(exp.run.path), "--repo", "me/mine"]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 2 and "set HF_TOKEN" in told.stderr and not Hub.calls
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0 and told.stdout.strip() == "hub/me/mine", told.output
    files_there = sorted(path.name for path in folder.iterdir())
    sent = [("token", "hf_of_a_test"), ("create", "me/mine", True), ("upload", "me/mine", files_there)]
    assert sent == Hub.calls
    monkeypatch.setattr(Hub, "upload_folder", lambda *_, **__: 1 / 0)
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 2 and "did not take me/mine (division by zero)" in told.stderr


def test_a_public_repository_is_no_place_for_a_private_push(exported, monkeypatch):
    words = ["hub", "push", str(exported["s1_single"][0].run.path), "--repo", "me/mine"]
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    monkeypatch.setattr(Hub, "calls", [])
    monkeypatch.setattr(Hub, "private", False)
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 2 and "is there and public" in told.stderr and Hub.calls[-1][0] == "create"
    told = CliRunner().invoke(app, [*words, "--public"])
    assert told.exit_code == 0 and Hub.calls[-1][0] == "upload"
    assert Hub.calls[-2] == ("create", "me/mine", False)
