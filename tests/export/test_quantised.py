"""4-bit exports of tiny runs, really quantised: weights, states, predictions, scores, pages' rows."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import gettempdir

import pytest
import torch
from safetensors.torch import load_file

from kaggle_kit.core.errors import ConfigError
from kaggle_kit.experiment.experiment import Experiment
from kaggle_kit.experiment.inference import Load, inference_rows
from kaggle_kit.experiment.load_trained_run import load_trained_run
from kaggle_kit.experiment.quantised import export_quantised, load_quantised_run
from kaggle_kit.export.card import Terms
from kaggle_kit.export.predict import load
from kaggle_kit.models import tiny
from kaggle_kit.models.merging import model_bytes
from tests.experiment.test_rounds import small_models  # noqa: F401

pytest.importorskip("gptqmodel", reason="the libraries of the extra [export] are an environment of their own")

TASKS, TOKENS = "semeval2014t7,semeval2017t3", "semeval2014t7"
SHAPE = {"hidden_size": 128, "intermediate_size": 256}  # AWQ takes outputs in multiples of 64
QUICK = ["training.max_steps=4", "profile.max_train_samples=24", "profile.max_dev_samples=6"]
STEPS = 15  # of 4 bits, from the least to the most


def trained(place: Path, strategy: str, tasks: str, *more: str) -> Experiment:
    """A finished run, whose adapters and heads are random enough to matter."""
    exp = Experiment.open(strategy, task=tasks, strategy=strategy, overrides=[*QUICK, *more], runs_dir=place)
    exp.train()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in exp.model.named_parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data.copy_(noise * (0.3 if "heads." in name else 0.05))
    exp.evaluate()
    exp.finish()
    return exp


@pytest.fixture(scope="module")
def run(tmp_path_factory, small_models):  # noqa: F811
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "SHAPE", tiny.SHAPE | SHAPE)
        yield trained(tmp_path_factory.mktemp("quantised") / "runs", "s2_shared", TASKS)


@pytest.fixture(scope="module", params=["gptq", "awq"])
def exported(request, run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / request.param
    return request.param, export_quantised(run.run, folder, Terms(), request.param)


def merged_weights(run: Experiment) -> dict[str, torch.Tensor]:
    model = load_trained_run(run.run).model
    backbone = model.backbone.merge_and_unload(adapter_names=model.adapters_of(TOKENS))
    return {name: part.detach() for name, part in backbone.state_dict().items() if part.dim() == 2}


def restored(stored: dict[str, torch.Tensor], name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(out, in) weight of a GPTQ layer, and the scale of each of its entries, worked out from the file."""
    packed, scales = stored[f"{name}.qweight"], stored[f"{name}.scales"].float()
    groups = stored[f"{name}.g_idx"].long()
    shifts = torch.arange(0, 32, 4)
    codes = (packed[:, None, :] >> shifts[None, :, None] & 15).reshape(-1, packed.shape[1])  # (in, out)
    return ((codes - 8) * scales[groups]).T, scales[groups].T


def test_every_gptq_weight_lies_on_its_groups_grid_and_near_the_merged_one(run, tmp_path):
    folder = export_quantised(run.run, tmp_path / "gptq", Terms(), "gptq")
    stored = load_file(folder / "adapters" / "backbone" / "model.safetensors")
    names = [name.removesuffix(".qweight") for name in stored if name.endswith(".qweight")]
    assert len(names) == 2 * 7  # two layers: q, k, v, o, gate, up, down
    wanted = merged_weights(run)
    for name in names:
        weight, scale = restored(stored, name)
        original = wanted[f"{name.removeprefix('model.')}.weight"]
        assert weight.shape == original.shape
        # rounding to the nearest errs by half a step at most; GPTQ moves weights further, to mend others
        assert float((weight - original).norm() / original.norm()) < 0.2
        assert (
            (weight / scale).abs() <= 8.01
        ).all() and scale.max() <= 2 * original.abs().max() / STEPS * 1.1


def test_states_and_predictions_are_near_those_of_the_run(exported, run):
    _, folder = exported
    quantised = load_quantised_run(folder, run.run.path.parent)
    batch = run.batches("dev", 4)[TOKENS][0]
    with torch.inference_mode():
        mine, theirs = (one.eval().encode(batch).float() for one in (run.model, quantised.model))
    assert float((mine - theirs).norm() / mine.norm()) < 0.35
    assert not torch.equal(mine, theirs)


def test_the_exported_folder_predicts_what_the_reloaded_run_predicts(exported, run):
    _, folder = exported
    texts = [sample.text for sample in run.samples("dev")[TOKENS]]
    alone = list(load(folder)(texts, TOKENS))
    together = list(load_quantised_run(folder, run.run.path.parent).predict(texts, TOKENS))
    places = [[[(m.fragments, m.type) for m in one.mentions] for one in side] for side in (alone, together)]
    assert places[0] == places[1] and any(places[0])


def test_the_card_and_the_settings_say_by_what_it_was_quantised_and_what_it_scores(exported, run):
    method, folder = exported
    card, settings = (folder / "README.md").read_text(), json.loads((folder / "settings.json").read_text())
    assert f"to 4 bits by {method.upper()}" in card and "safetensors gptqmodel optimum" in card
    assert "| task | split | metric | run | 4 bits |" in card and "LoRA adapters and heads on" not in card
    assert settings["quantised"]["run"] == run.run.run_id and settings["quantised"]["group"] == 128
    assert settings["quantised"]["tokens"] > settings["quantised"]["rows"] > 1
    texts = [path.read_text() for path in folder.rglob("*") if path.suffix in (".json", ".md", ".csv")]
    places = (str(run.run.path.parent), gettempdir())
    assert not any(place in text for text in texts for place in places)


def test_the_benchmark_takes_a_quantised_run_as_merged_and_smaller(exported, run):
    method, folder = exported
    quantised = load_quantised_run(folder, run.run.path.parent)
    (row,) = inference_rows(quantised, TOKENS, Load((2,), repeats=2))
    assert row["precision"] == method and row["adapters"] == "merged" and row["texts/s"] > 0
    assert model_bytes(quantised.model) < 0.7 * model_bytes(load_trained_run(run.run).model)


def test_calibration_is_drawn_by_the_runs_seed(exported, run):
    method, folder = exported
    again = export_quantised(run.run, folder.parent / f"again_{method}", Terms(), method)
    one, two = (load_file(of / "adapters" / "backbone" / "model.safetensors") for of in (folder, again))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_tasks_with_adapters_of_their_own_are_quantised_one_by_one(tmp_path, run):
    exp = trained(tmp_path / "runs", "s3a_flat", TASKS, "strategy.fusion=none")
    with pytest.raises(ConfigError, match="each task has adapters of its own.* --task, one of"):
        export_quantised(exp.run, tmp_path / "out", Terms(), "gptq")
    folder = export_quantised(exp.run, tmp_path / "out", Terms(), "gptq", TOKENS)
    quantised = load_quantised_run(folder, tmp_path / "runs")
    assert list(quantised.specs) == [TOKENS]
    batch = exp.batches("dev", 4)[TOKENS][0]
    with torch.inference_mode():
        mine, theirs = (one.eval().encode(batch).float() for one in (exp.model, quantised.model))
    assert float((mine - theirs).norm() / mine.norm()) < 0.35


def test_a_model_that_was_trained_as_a_whole_is_quantised_as_it_is(tmp_path, run):
    exp = trained(tmp_path / "runs", "s1_single", TOKENS, "training.full_finetuning=true")
    folder = export_quantised(exp.run, tmp_path / "out", Terms(), "gptq")
    assert "trained as a whole, without adapters" in (folder / "README.md").read_text()
    batch = exp.batches("dev", 4)[TOKENS][0]
    quantised = load_quantised_run(folder, tmp_path / "runs").model.eval()
    with torch.inference_mode():
        mine, theirs = (one.eval().encode(batch).float() for one in (exp.model, quantised))
    assert 0 < float((mine - theirs).norm() / mine.norm()) < 0.35


def test_a_run_whose_adapters_are_fused_is_refused(tmp_path, run):
    exp = trained(tmp_path / "runs", "s3a_flat", TASKS)
    with pytest.raises(ConfigError, match="fusion .* cannot be merged"):
        export_quantised(exp.run, tmp_path / "out", Terms(), "gptq", TOKENS)
    assert not (tmp_path / "out").exists()
