"""A finished run as a folder that anybody can use without this project.

export_run(RunFolder.open(Path("runs/mine")), Path("mine"), Terms(verdict=Path("verdict.json")))

mine/README.md                 the model card
mine/predict.py, kaggle_kit/   prediction, and copies of exactly the modules that it imports
mine/adapters/                 as in the run: one PEFT folder each, fusion, heads, tasks, concepts
mine/settings.json             the backbone, how it is loaded and read
mine/adapters/backbone/        the whole backbone, where all of it was trained
mine/backbone/                 only of a model that is built from practice text
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.config import read_config
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.records import to_json, writing
from kaggle_kit.core.runtime import SOURCE_ROOT
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.core.secrets import refuse_secrets
from kaggle_kit.core.types import Access, TaskSpec
from kaggle_kit.data.practice import corpus_text
from kaggle_kit.export.card import NOT_ALONE, Shared, Terms, model_card
from kaggle_kit.export.predict import ADAPTERS, CONCEPTS, SETTINGS
from kaggle_kit.models.adapter_files import saved_description, saved_ranks, saved_specs
from kaggle_kit.models.adapters import BACKBONE
from kaggle_kit.models.build import with_ranks
from kaggle_kit.models.loading import place_of
from kaggle_kit.models.tiny import build_tiny

PACKAGE, LICENCE = "kaggle_kit", "LICENSE"
SCRIPT = Path(__file__).with_name("predict.py")


def export_run(run: RunFolder, out: Path, terms: Terms) -> Path:
    """Write the folder and return it. Raises what `checked` raises."""
    shared = checked(run, out, terms)
    card, config = refuse_secrets(model_card(shared, terms), "the model card"), shared.config
    with writing(out):
        shutil.copytree(run.adapters, out / ADAPTERS, ignore=shutil.ignore_patterns(".*"))
        _name_backbone(out / ADAPTERS, shared)
        complete(shared, out)
        if config.model.recipe and not shared.whole:
            place = place_of(config.model) or build_tiny(
                config.model.architecture, corpus_text(config.practice)
            )
            if not Path(place).is_dir():
                raise ConfigError(f"{place} is no folder; the backbone {config.model.name} has to lie in one")
            shutil.copytree(place, out / BACKBONE)
        (out / "README.md").write_text(card, encoding="utf-8")
    return out


def checked(run: RunFolder, out: Path, terms: Terms) -> Shared:
    """Return the run as it may be shared.

    Raises RunFolderError for a run that is unfinished or was edited, and ConfigError for a place that is
    taken, a verdict on other runs, and a run on restricted text whose owner states no agreement.
    """
    run.verify()
    config, specs = read_config(run.config_yaml), saved_specs(run.adapters)
    closed = restricted(specs)
    if (closed or run.manifest()["flags"].get("restricted")) and not terms.agreement.strip():
        raise ConfigError(
            f"{run.run_id} was trained on restricted text ({', '.join(closed or specs)}); its weights may be "
            "shared only where the data use agreement allows it: --agreement 'TEXT' states that and by which "
            "clause; the card shows it"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is there and not an empty folder; name a new one")
    described = saved_description(run.adapters)
    commit = described["backbone"]["commit"]
    config = replace(config, model=replace(config.model, revision=config.model.revision or commit))
    return Shared(run, config, specs, described)


def restricted(specs: Mapping[str, TaskSpec]) -> list[str]:
    """List the tasks whose text is restricted."""
    return [name for name, spec in specs.items() if spec.access is Access.RESTRICTED]


def complete(shared: Shared, out: Path, **more: Any) -> None:
    """Write what lies beside the weights in `out/adapters`: names of concepts, settings, the modules."""
    _leave_out_restricted_names(out / ADAPTERS / CONCEPTS, restricted(shared.specs))
    settings = _settings(shared.config, out / ADAPTERS) | more
    (out / SETTINGS).write_text(to_json(settings, indent=2), encoding="utf-8")
    _copy_modules(out)


def _settings(config: RunConfig, adapters: Path) -> dict[str, Any]:
    """What `predict.load` reads: all of the configuration that decides on a prediction."""
    training = config.training
    cut = {"max_length": training.passage_tokens(), "stride": training.stride}
    return {
        "model": asdict(config.model) | {"path": None},
        "strategy": asdict(with_ranks(config.strategy, saved_ranks(adapters))),
        "precision": "float32" if training.full_finetuning else config.profile.precision,
        "token_budget": training.token_budget,
        "passages": {name: cut | {"segments": task.segments} for name, task in config.tasks.items()},
    }


def _leave_out_restricted_names(path: Path, closed: list[str]) -> None:
    """Empty the names of concepts where they are words of restricted notes."""
    names = json.loads(path.read_text(encoding="utf-8"))
    kept = {task: {} if task in closed else of or {} for task, of in names.items()}
    path.write_text(to_json(kept, indent=2) + "\n", encoding="utf-8")


def _name_backbone(adapters: Path, shared: Shared) -> None:
    """Name the backbone on the hub instead of its place on this machine, and what is not the model alone."""
    model = shared.config.model
    base = model.hub_id or (f"../../{BACKBONE}" if model.recipe else model.name)
    for name in saved_ranks(adapters):
        path = adapters / name / "adapter_config.json"
        stored = json.loads(path.read_text(encoding="utf-8"))
        stored |= {"base_model_name_or_path": base, "revision": model.revision}
        if not shared.plain:
            stored[NOT_ALONE] = True
        path.write_text(to_json(stored, indent=2) + "\n", encoding="utf-8")


class _Finder(ModuleFinder):
    """Follows the imports of this project alone, those inside of functions included."""

    def find_module(self, name: str, path: Any, parent: Any = None) -> Any:
        """Find a module of this project. Raises ImportError for any other."""
        if path is None and name != PACKAGE:
            raise ImportError(name)
        return super().find_module(name, path, parent)


def _copy_modules(out: Path) -> None:
    """Copy `predict.py` and every module that it imports, at whatever remove."""
    finder = _Finder(path=[str(SOURCE_ROOT)])
    finder.run_script(str(SCRIPT))  # it compiles and does not run
    found = [Path(vars(module)["__file__"]) for name, module in finder.modules.items() if name != "__main__"]
    for path in found:
        target = out / path.relative_to(SOURCE_ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    shutil.copyfile(SCRIPT, out / SCRIPT.name)
    if (SOURCE_ROOT / LICENCE).is_file():
        shutil.copyfile(SOURCE_ROOT / LICENCE, out / LICENCE)
