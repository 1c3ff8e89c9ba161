"""Prediction with a shared model, where torch, transformers, peft and safetensors are installed.

    python predict.py notes.jsonl > found.jsonl        # or a .txt file, or a folder of both

    from predict import load
    for found in load(".")(["No history of diabetes."]): print(found.mentions)

A shared folder carries a copy of this file and of the modules that it imports.
"""

import sys
from argparse import ArgumentParser
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from kaggle_kit.core.errors import ConfigError, KitError
from kaggle_kit.core.records import Recorded
from kaggle_kit.core.restricted import for_files
from kaggle_kit.core.runtime import logger
from kaggle_kit.core.schema import LoraSettings, ModelConfig, StrategyConfig, UnslothSettings
from kaggle_kit.data.formats.jsonl import files
from kaggle_kit.data.passages import PassageSettings
from kaggle_kit.evaluation.predict import Predictor
from kaggle_kit.evaluation.texts import TextReader, chosen_task, read_texts
from kaggle_kit.models.adapter_files import load_adapters, saved_ranks, saved_specs
from kaggle_kit.models.adapters import BACKBONE
from kaggle_kit.models.build import build_model
from kaggle_kit.models.loading import Loaded, load_backbone, place_of, variable_of
from kaggle_kit.models.multitask import MultiTaskModel

ADAPTERS, CONCEPTS, SETTINGS = "adapters", "concepts.json", "settings.json"


def load(folder: Path | str, *, model: str | None = None, device: str = "auto") -> TextReader:
    """Return what predicts: `load(folder)(texts, task)` yields one sample per text.

    `model` is the backbone's folder, where it does not come from the hub. Raises ConfigError where there is
    none, RunFolderError where it is another one, or where a file of the folder is damaged.
    """
    folder = Path(folder)
    settings = Recorded.read(folder / SETTINGS)
    loaded, trained = load_model(folder, settings, model, device)
    specs = trained.specs
    made = {name: decision.value for name, decision in loaded.decisions.items()}
    predictor = Predictor(trained, settings["token_budget"], made["device"], made["dtype"] == "float16")
    passages = {
        task: PassageSettings(**cut, last_subword=loaded.causal) for task, cut in settings["passages"].items()
    }
    concepts = Recorded.read(folder / ADAPTERS / CONCEPTS)
    if any(concepts.values()) and find_spec("sklearn") is None:
        logger.warning("mentions get no concepts: these take scikit-learn, which is not installed")
        concepts.update({task: {} for task in concepts})
    return TextReader(predictor, loaded.tokenizer, specs, passages, concepts)


def load_model(
    folder: Path, settings: Recorded, model: str | None = None, device: str = "auto"
) -> tuple[Loaded, MultiTaskModel]:
    """Return the backbone of a shared folder, with the decisions on it, and the model. Raises as `load`."""
    strategy = StrategyConfig(**settings["strategy"])
    loaded = _backbone(folder, settings, model, device, strategy)
    loaded = replace(loaded, whole=not saved_ranks(folder / ADAPTERS))
    trained = build_model(loaded, saved_specs(folder / ADAPTERS).values(), strategy).eval()
    load_adapters(trained, folder / ADAPTERS)
    return loaded, trained


def _backbone(
    folder: Path, settings: Recorded, model: str | None, device: str, strategy: StrategyConfig
) -> Loaded:
    parts = {"lora": LoraSettings, "unsloth": UnslothSettings}
    stored = settings["model"] | {name: kind(**settings["model"][name]) for name, kind in parts.items()}
    places = (folder / ADAPTERS / BACKBONE, folder / BACKBONE)  # the first where all of it was trained
    own = next((str(place) for place in places if place.is_dir()), None)
    config = ModelConfig(**stored | {"path": model or own})
    if place_of(config) is None and config.hub_id is None:
        raise ConfigError(
            f"model {config.name} came from a folder and is on no hub; give that folder, by --model FOLDER, "
            f"load(…, model=FOLDER) or {variable_of(config)}"
        )
    return load_backbone(
        config,
        device=device,
        precision=settings["precision"],
        quantization=strategy.quantization,
        bidirectional=strategy.attention == "bidirectional",
    )


def main(folder: Path) -> None:
    """Write one JSON line per text to the standard output; of restricted text no word."""
    parser = ArgumentParser(description="Find what the model of this folder finds in new texts.")
    parser.add_argument("texts", type=Path, help="a .txt or .jsonl file, or a folder of them")
    parser.add_argument("--task", help="one of the model's tasks, where it has several")
    parser.add_argument("--model", help="the backbone's folder, where it does not come from the hub")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    asked = parser.parse_args()
    try:
        reader = load(folder, model=asked.model, device=asked.device)
        task = chosen_task(reader.specs, asked.task)
        for sample in reader(read_texts(asked.texts, reader.specs[task].access), task):
            for _, lines in files([for_files(sample)]):
                sys.stdout.buffer.write("".join(f"{line}\n" for line in lines).encode())
    except KitError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main(Path(__file__).resolve().parent)
