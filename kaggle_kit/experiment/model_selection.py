"""S5's choice between finished strategies, by what they score on development data.

config, reason = better_candidate(config, runs_dir, run_dir)
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

from kaggle_kit.analysis.comparability import assert_fixed
from kaggle_kit.analysis.verdict_inputs import Entry
from kaggle_kit.core.artifacts import RunFolder, find_runs
from kaggle_kit.core.config import config_hash, read_config, strategy_entry
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runtime import in_workspace
from kaggle_kit.core.schema import NF4_ABOVE_PARAMETERS, RunConfig, StrategyConfig, quantization_for
from kaggle_kit.experiment.scoring import CHOOSING, selection_score

S5_OWN_KEYS = ("name", "title", "quantization", "candidates")  # of S5's strategy; the rest is the candidate's


def better_candidate(
    config: RunConfig, runs_dir: Path | str, run_dir: Path | str = ""
) -> tuple[RunConfig, str]:
    """Return the configuration with the strategy of the better finished candidate as trained, and the reason.

    Candidates are the finished runs of `strategy.candidates` on the same tasks, model and profile; where
    `experiment.candidates` lists run ids, as a study does, only those. What they score on dev chooses, and
    `experiment.choice` keeps that. A run that has begun in `run_dir` goes on with what it began with.

    Raises IncomparableRuns for candidates of one strategy that differ in more than the seed, and ConfigError
    for those on an NF4 base; for a strategy that was asked for otherwise than the better one was trained;
    and on a paper profile unless each strategy has one that is scored on dev. Other profiles fall back on
    the strategy as declared.
    """
    if begun := _begun(config, run_dir):
        return begun, f"{begun.strategy.kind}, as this run began"
    finished = _candidates(config, runs_dir)
    _assert_unquantised(config, finished)
    for name, runs in finished.items():  # they may differ in the seed alone
        assert_fixed("s5", {name: [Entry.of(run) for run, _ in runs]}, list(config.tasks), CHOOSING)
    scores_of = {name: fmean(score for _, score in runs) for name, runs in finished.items()}  # over the seeds
    missing = [name for name in config.strategy.candidates if name not in scores_of]
    if missing and config.profile.paper:
        none = f"no finished run of {', '.join(missing)} for these tasks is scored on {CHOOSING}"
        raise ConfigError(f"{none}, where S5 chooses; run its page with profile.report=[{CHOOSING},test]")
    if not scores_of:
        return config, f"no finished run of {', '.join(missing)}: {config.strategy.kind} as declared"
    best = max(scores_of, key=scores_of.__getitem__)
    winner, _ = finished[best][0]
    own = {key: getattr(config.strategy, key) for key in S5_OWN_KEYS}
    strategy = replace(read_config(winner.config_yaml).strategy, **own)
    _assert_not_asked_otherwise(config, strategy, winner)
    scores = ", ".join(f"{name} {score:.3f}" for name, score in scores_of.items())
    reason = f"{best} is the better of {scores} on {CHOOSING}"
    choice = {"choice": {"of": best, "split": CHOOSING}}
    return replace(config, strategy=strategy, experiment=config.experiment | choice), reason


def _begun(config: RunConfig, run_dir: Path | str) -> RunConfig | None:
    """Return `config` with the strategy that its run in `run_dir` began with; None if none has begun."""
    if not run_dir or not (Path(run_dir) / "config.yaml").is_file():
        return None
    run = RunFolder.open(Path(run_dir), finished=False)
    if run.facts.get("asked_hash") != config_hash(config):
        return None
    settled = read_config(run.config_yaml)
    return replace(config, strategy=settled.strategy, experiment=settled.experiment)


def _candidates(config: RunConfig, runs_dir: Path | str) -> dict[str, list[tuple[RunFolder, float]]]:
    """Return strategy -> its finished runs, each with its figure on dev; runs that score nothing are none."""
    finished: dict[str, list[tuple[RunFolder, float]]] = {}
    setting = (set(config.tasks), config.model.name, config.profile.name)
    run_ids = config.experiment.get("candidates")
    choosing = {(name, task.primary_metric, CHOOSING) for name, task in config.tasks.items()}
    for run in find_runs(in_workspace(runs_dir)):
        strategy = run.facts["strategy"]
        same = (set(run.facts["tasks"]), run.facts["model"], run.facts["profile"]) == setting
        if not same or strategy not in config.strategy.candidates or (run_ids and run.run_id not in run_ids):
            continue
        primary = {m.task: m.value for m in run.metrics() if (m.task, m.name, m.split) in choosing}
        if len(primary) == len(config.tasks):  # a search or an affinity run scores nothing
            finished.setdefault(strategy, []).append((run, selection_score(config, primary)))
    return finished


def _assert_not_asked_otherwise(config: RunConfig, strategy: StrategyConfig, winner: RunFolder) -> None:
    """Refuse settings on S5's own command that differ from its candidate's, which say how S5 trains."""
    declared = strategy_entry(config.strategy.name)
    for key, value in asdict(config.strategy).items():
        if key not in S5_OWN_KEYS and value not in (getattr(declared, key), getattr(strategy, key)):
            values = f"{value} here and {getattr(strategy, key)} in {winner.run_id}, which S5 trains"
            then = f"set it on the runs of {', '.join(config.strategy.candidates)} instead"
            raise ConfigError(f"strategy.{key} is {values} on an NF4 base; leave it out here and {then}")


def _assert_unquantised(config: RunConfig, finished: Mapping[str, list[tuple[RunFolder, float]]]) -> None:
    """Refuse candidates on an NF4 base: S5 measures the cost of NF4 against a base without it."""
    for name in config.strategy.candidates:
        trained = [run.config()["strategy"]["quantization"] for run, _ in finished.get(name, ())]
        ways = trained or [strategy_entry(name).quantization]
        if "nf4" in {way or quantization_for(config.model.parameters) for way in ways}:
            size = f"{config.model.parameters / 1e9:.2f}B parameters"
            what = f"{name} on {config.model.name} ({size}) is loaded in NF4 already, as S5 would"
            allowed = f"at most {NF4_ABOVE_PARAMETERS / 1e9:g}B, or runs with strategy.quantization=none"
            raise ConfigError(f"{what}; allowed: {allowed}")
