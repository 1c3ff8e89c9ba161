"""From a configuration to its run folder: the readable id, the flags, and the folder itself.

run = start_run(config, page="s1_single_task", runs_dir=runs_dir, run_dir=run_dir)
"""

import re
from collections.abc import Iterable
from pathlib import Path

from kaggle_kit.core.artifacts import RunFolder, reserve
from kaggle_kit.core.config import config_hash, to_yaml
from kaggle_kit.core.errors import ConfigError, RunFolderError
from kaggle_kit.core.runtime import in_workspace
from kaggle_kit.core.schema import RunConfig, TaskConfig
from kaggle_kit.core.secrets import refuse_secrets
from kaggle_kit.core.types import Access

# Pages that look into adapters, and the one that trains without any.
OF_ADAPTERS = ("s1_single_task", "s2_shared", "ablation_architecture")
OF_WHOLE = "encoder_baselines"


def config_run_id(config: RunConfig, page: str) -> str:
    """Return the id of a page's run: readable names, then the hash that tells configurations apart."""
    names = (config.model.name, config.strategy.name, config.profile.name)
    parts = (page, "+".join(config.tasks), *names, f"seed{config.seed}", config_hash(config)[:8])
    return "-".join(re.sub(r"[^A-Za-z0-9_.+]+", "_", part) for part in parts)


def run_flags(config: RunConfig, also: Iterable[TaskConfig] = ()) -> dict[str, bool]:
    """Return why a run may not be quoted or shared. `also` are corpora that it reads besides its tasks.

    `smoke`: too small to mean anything. `practice`: synthetic corpora. `restricted`: its corpora may
    not leave the machine (practice data, being invented, always may).
    """
    practice = config.profile.corpora == "practice"
    restricted = any(task.access == Access.RESTRICTED for task in (*config.tasks.values(), *also))
    flags = {"smoke": config.profile.name == "smoke", "practice": practice}
    return flags | {"restricted": restricted and not practice}


def refuse_misuse(config: RunConfig, page: str) -> None:
    """Raise ConfigError for a toy model under a paper profile, and for what another page carries out."""
    model, profile, experiment = config.model, config.profile, config.experiment
    if config.training.full_finetuning and page in OF_ADAPTERS:
        shows = f"page {page} shows what adapters do, and training.full_finetuning=true trains without any"
        raise ConfigError(f"{shows}: `run {OF_WHOLE}` trains one or several tasks so; or leave it out")
    if profile.paper and model.recipe and model.path is None:
        built = f"model {model.name!r} is built on the spot, and {profile.name!r} is a paper profile"
        raise ConfigError(f"{built}; name another model, such as llama3b, or set profile.paper=false")
    wanted = experiment.get("page", page)
    if wanted != page and "twin_config" not in experiment:  # a control holds its run's experiment
        name, then = experiment.get("name"), f"`run {wanted}`, or leave the experiment out"
        raise ConfigError(f"experiment {name!r} is carried out by page {wanted}, not by {page}: {then}")


def start_run(
    config: RunConfig,
    page: str,
    *,
    runs_dir: Path | str = "runs",
    run_dir: Path | str = "",
    also: Iterable[TaskConfig] = (),
    asked: RunConfig | None = None,
) -> RunFolder:
    """Open the folder of a page's run; `also` are corpora that it reads besides its tasks.

    `asked` is what the page was told, where it settles the configuration itself (a twin, S5): whoever
    waits for the run knows no other.

    Raises ConfigError as `refuse_misuse` does, and for the settings of a control on any page but its own.

    `run_dir` is the folder that `page_run` reserved; empty (Run all, plain papermill) reserves one
    below `runs_dir`, relative to the workspace. An unfinished run of this very configuration in
    `run_dir` is opened again, to go on from its checkpoints; any other one is a RunFolderError.
    """
    _refuse_stray_twin(config)
    config.training.passage_tokens()  # refuses `auto` that nobody has decided
    refuse_misuse(config, page)
    if run_dir and (Path(run_dir) / "config.yaml").is_file():
        return unfinished(Path(run_dir), config_hash(config))
    path = Path(run_dir) if run_dir else reserve(in_workspace(runs_dir), config_run_id(config, page))
    names = {group: getattr(config, group).name for group in ("model", "strategy", "profile")}
    facts = {"page": page, "tasks": list(config.tasks), **names, "paper": config.profile.paper}
    facts |= {"seed": config.seed, "asked_hash": config_hash(asked or config)}
    text = refuse_secrets(to_yaml(config), "the configuration")
    return RunFolder.create(path, text, config_hash(config), run_flags(config, also), **facts)


def _refuse_stray_twin(config: RunConfig) -> None:
    """Only the page that settles a control on its multi-task run can say whose twin a run is."""
    if "twin_config" in config.experiment:
        return
    for key, none in (("twin", None), ("placebo", False), ("control", "total")):
        if (value := config.experiment.get(key, none)) != none:
            does = f"experiment.{key}={value} makes a run a control, which page token_controlled alone does"
            raise ConfigError(f"{does}: `run token_controlled`, or leave experiment.{key} out")


def unfinished(path: Path, wanted: str | None = None) -> RunFolder:
    """Return the run to go on with; RunFolderError for a finished one or another configuration's."""
    run = RunFolder.open(path, finished=False)
    if run.finished:
        raise RunFolderError(f"{path} is a finished run; a result is never replaced, start a new one")
    if wanted and run.facts["config_hash"] != wanted:
        other = f"configuration {run.facts['config_hash']}, not {wanted}"
        raise RunFolderError(f"{path} was started with {other}; give the options of its config.yaml")
    return run
