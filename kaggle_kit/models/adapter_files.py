"""What a run trained, on disk: a stock PEFT folder per adapter; fusion, cross-level and heads beside them.

    save_adapters(model, run.adapters)
    load_adapters(model, run.adapters)        # into a model built for the same strategy and tasks

    adapters/<name>/adapter_model.safetensors, adapter_config.json     load in stock PEFT without this module
    adapters/fusion.safetensors, heads.safetensors, strategy.json      what stock PEFT knows nothing of
    adapters/tasks.json                                                labels and candidates of each task
    adapters/backbone/model.safetensors, config.json                   where all of it trained, and no adapter

Stock PEFT would load a fused pair and drop its fusion without a word. Here whatever is missing or left
over is an error that names it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kaggle_kit.core.errors import RunFolderError
from kaggle_kit.core.records import Recorded, reading, writing
from kaggle_kit.core.types import Access, ComponentSpec, Kind, TaskSpec
from kaggle_kit.models.adapters import BACKBONE
from kaggle_kit.models.multitask import MultiTaskModel

WEIGHTS = "adapter_model.safetensors"
FUSION, HEADS, STRATEGY = "fusion.safetensors", "heads.safetensors", "strategy.json"
TASKS = "tasks.json"
MARKS = 64  # embeddings, of all of them the same ones, by which a backbone is known


def save_adapters(model: MultiTaskModel, folder: Path) -> None:
    """Write everything that training may have changed."""
    with writing(folder):
        for place, state in _states(model).items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            _write(state, folder / place)
        if model.lora.whole:
            model.lora.base.config.save_pretrained(folder / BACKBONE)
        for name in model.lora.ranks:
            model.lora.peft.peft_config[name].save_pretrained(str(folder / name))
        described = _description(model) | {"backbone": _marks(model)}
        described["adapters"] = {task: model.adapters_of(task) for task in model.specs}
        (folder / STRATEGY).write_text(json.dumps(described, indent=2) + "\n")
        tasks = {name: asdict(spec) for name, spec in model.specs.items()}
        (folder / TASKS).write_text(json.dumps(tasks, indent=2) + "\n")


def load_adapters(model: MultiTaskModel, folder: Path) -> None:
    """Read a folder of `save_adapters` into a model of the same strategy, ranks and tasks.

    Raises RunFolderError naming a file, a tensor or a setting that is missing, left over or different.
    """
    stored, expected = saved_description(folder), _description(model)
    for key in expected:
        if stored.get(key) != expected[key]:
            raise RunFolderError(
                f"{folder}: {key} is {stored.get(key)}, but this model has {expected[key]}; "
                "build the model with the run's own config"
            )
    _assert_same_backbone(model, stored.get("backbone", {}), folder)
    states = _states(model)
    tensors = {place: _checked(folder / place, state) for place, state in states.items()}
    for place, state in states.items():
        for name, tensor in state.items():
            tensor.copy_(tensors[place][name])


def saved_description(folder: Path) -> Recorded:
    """Read what `save_adapters` says of the model: ranks, fusion, the adapters of each task, the backbone."""
    with reading(folder / STRATEGY):
        values = json.loads(_existing(folder / STRATEGY).read_text(encoding="utf-8"))
        return Recorded(values.items(), folder / STRATEGY)


def saved_ranks(folder: Path) -> dict[str, int]:
    """Read adapter -> rank, in their order, from a folder of `save_adapters`."""
    return saved_description(folder)["ranks"]


def saved_specs(folder: Path) -> dict[str, TaskSpec]:
    """Read task -> what the model knows of it, in their order, from a folder of `save_adapters`."""
    path = folder / TASKS
    with reading(path):
        stored = json.loads(_existing(path).read_text(encoding="utf-8"))
        return {name: _spec(**record) for name, record in stored.items()}


def _spec(components: list[dict[str, Any]], access: str, **others: Any) -> TaskSpec:
    parts = (
        ComponentSpec(
            **part
            | {"kind": Kind(part["kind"]), "labels": tuple(part["labels"])}
            | {"candidates": tuple(map(tuple, part["candidates"]))}
        )
        for part in components
    )
    return TaskSpec(components=tuple(parts), access=Access(access), **others)


def _description(model: MultiTaskModel) -> dict[str, object]:
    return {
        "model": type(model).__name__,
        "causal": model.causal or [task for task in model.specs if model.is_causal(task)] or False,
        "ranks": model.lora.ranks,
        "scaling": model.lora.scaling,
        "fusion": model.lora.fusion,
        "tasks": {task: sorted(heads) for task, heads in model.heads.items()},
    }


def _marks(model: MultiTaskModel) -> dict[str, Any]:
    """Say by what a frozen backbone is known again: its commit on the hub, and a few of its embeddings."""
    weights = model.backbone.get_input_embeddings().weight.detach().flatten()
    places = torch.linspace(0, len(weights) - 1, MARKS, dtype=torch.float64).long()
    embeddings = [] if model.lora.whole else weights[places.to(weights.device)].tolist()
    return {"commit": getattr(model.backbone.config, "_commit_hash", None), "embeddings": embeddings}


def _assert_same_backbone(model: MultiTaskModel, marks: Mapping[str, Any], folder: Path) -> None:
    """RunFolderError where the embeddings differ by more than float16 rounds: it would predict anything."""
    saved, own = (torch.tensor(one.get("embeddings", ())) for one in (marks, _marks(model)))
    if len(saved) and not torch.allclose(saved, own, rtol=1e-3, atol=1e-6):
        raise RunFolderError(
            f"{folder}: the adapters belong to another backbone than {model.backbone.config.name_or_path}, "
            "for its embeddings differ; give the one that they were trained on"
        )


def _states(model: MultiTaskModel) -> dict[str, dict[str, Tensor]]:
    """File -> its tensors, which are those of the model, detached."""
    names = {id(p): name for name, p in model.named_parameters()}
    groups = model.parameter_groups()
    between = [name for name in groups if name.startswith("fusion:") or name == "cross_level"]
    states = {FUSION: {names[id(p)]: p.detach() for name in between for p in groups[name].parameters}}
    if model.lora.whole:  # under its own names, so that the library loads the folder
        states[f"{BACKBONE}/model.safetensors"] = {n: p.detach() for n, p in model.lora.whole.items()}
    for name in model.lora.ranks:  # under the names of stock PEFT, which would count the fusion to an adapter
        state = get_peft_model_state_dict(model.lora.peft, adapter_name=name, save_embedding_layers=False)
        states[f"{name}/{WEIGHTS}"] = {key: part for key, part in state.items() if ".fusion." not in key}
    return states | {HEADS: model.heads.state_dict()}


def _write(state: Mapping[str, Tensor], path: Path) -> None:
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, path)
    except SafetensorError as error:  # its own name for a full disk
        raise RunFolderError(
            f"{path} was not written: {error}; free some space, or use another disk"
        ) from error


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise RunFolderError(f"{path} is missing; without it the model would not be the one that was trained")
    return path


def _checked(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The file's tensors, if they are exactly those expected, in name and shape."""
    try:
        state = load_file(_existing(path))
    except (OSError, SafetensorError) as error:
        raise RunFolderError(f"{path} is damaged ({error}); run its page again in a new folder") from error
    missing, left_over = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or left_over:
        names = {"missing": missing, "left over": left_over}
        text = "; ".join(f"{len(some)} {what}, such as {some[0]}" for what, some in names.items() if some)
        raise RunFolderError(f"{path}: tensors do not match the model: {text}")
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise RunFolderError(
                f"{path}: {name} is {tuple(tensor.shape)}, but this model has {tuple(expected[name].shape)}"
            )
    return state
