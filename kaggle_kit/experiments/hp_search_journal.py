"""A hyper-parameter search that can be interrupted, counted and told: Optuna's sampler, pruner and journal.

    search = Search(search_settings(config), run.path, seed=config.seed)
    search.run(lambda attempt: score_of(attempt.values))
    search.best().values, search.records()

The space, the number of trials and the reduced configurations are declared under `experiment` before
the search. A trial that was pruned early counts like any other, so arms with one declaration have one
budget. What a trial draws depends on the seed and on the trials before it alone, so an interrupted
search goes on as if it had not been.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from kaggle_kit.core.errors import ConfigError, KitError
from kaggle_kit.core.schema import RunConfig

DECLARED = {"split", "space", "trials", "random_trials", "warmup_reports", "full_models", "reduced"}
SPLIT = "dev"  # what a hyper-parameter may be chosen on
# Of no consequence where one task is trained, so a single-task arm does not spend trials on them.
SEVERAL_TASKS = ("strategy.sampling", "strategy.temperature", "strategy.loss_weighting")
# Of no consequence where a run's tokens are given, and where its steps and its parameters are, too.
WITH_TOKENS = ("training.epochs",)
OF_A_BASELINE = ("training.effective_batch", "strategy.rank")
OF_ADAPTERS = ("strategy.rank",)  # of no consequence where the whole backbone trains
ARMS = {
    "multi-task": (),
    "single-task": SEVERAL_TASKS,
    "token-controlled": (*SEVERAL_TASKS, *WITH_TOKENS, *OF_A_BASELINE),
}
TEMPERATURE, ITS_CONDITION = "strategy.temperature", ("strategy.sampling", "temperature")
REMAINS = ("trainable_parameters", "device")  # of a trial that is not repeated


class Pruned(KitError):
    """A trial is given up early: it lies behind the others, or it diverged. It counts all the same."""


@dataclass(frozen=True)
class SearchSettings:
    """What is searched, and how often.

    `space` has the choices of each configuration key. `reduced` is empty for the full space, else one
    dictionary of values per trial. The first `random_trials` are drawn at random; nothing is pruned before
    that many have run to their end, nor before a trial's `warmup_reports`-th report.
    """

    space: Mapping[str, Sequence[Any]]
    trials: int
    reduced: tuple[Mapping[str, Any], ...] = ()
    random_trials: int = 6
    warmup_reports: int = 1


@dataclass
class Attempt:
    """One trial as the objective sees it. `number` counts from 0 among the trials of the budget."""

    number: int
    values: dict[str, Any]  # configuration key -> value
    trial: optuna.Trial
    reported: Container[int]  # points that it had reached when it was interrupted

    def report(self, point: int, score: float) -> None:
        """The score so far at the `point`-th of equally spaced points, from 1. Raises Pruned."""
        if point in self.reported:
            return
        self.trial.report(score, point)
        if self.trial.should_prune():
            raise Pruned(f"trial {self.number} is behind the median at report {point} with {score:.4g}")

    def note(self, **facts: Any) -> None:
        """Plain facts for the trial's record, such as the tokens that it cost."""
        for name, value in facts.items():
            self.trial.set_user_attr(name, value)


def search_settings(config: RunConfig) -> SearchSettings:
    """What `experiment` declares for the run's model. Raises ConfigError for any split but dev."""
    said = config.experiment
    if lacking := sorted(DECLARED - said.keys()):
        raise ConfigError(f"experiment.{lacking[0]} is not declared; a search needs experiment=hp_search")
    if said["split"] != SPLIT:
        why = f"hyper-parameters are chosen on {SPLIT} only; set experiment.split={SPLIT}"
        raise ConfigError(f"experiment.split={said['split']}: {why}")
    skipped = (
        *(SEVERAL_TASKS if len(config.tasks) == 1 else ()),
        *(WITH_TOKENS if config.training.target_tokens else ()),
        *(OF_A_BASELINE if said.get("twin_config") else ()),
    )
    return _settings(config, skipped)


def settings_by_arm(config: RunConfig) -> dict[str, SearchSettings]:
    """What the same declaration gives to each arm of a comparison, whichever of them is searched."""
    return {arm: _settings(config, skipped) for arm, skipped in ARMS.items()}


def space_rows(config: RunConfig) -> list[dict[str, str]]:
    """One row for each declared key: what each arm may choose there, and the budget of each in the last."""
    arms = settings_by_arm(config)
    rows = [
        {"key": key} | {arm: _allowed(settings, key) for arm, settings in arms.items()}
        for key in config.experiment["space"]
    ]
    return [*rows, {"key": "trials"} | {arm: str(settings.trials) for arm, settings in arms.items()}]


class Search:
    """A search in `folder`, begun or gone on with; `study.journal` there holds all that was tried."""

    def __init__(self, settings: SearchSettings, folder: Path, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.settings, self.seed = settings, seed
        storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
        pruner = optuna.pruners.MedianPruner(settings.random_trials, settings.warmup_reports)
        self.study = optuna.create_study(
            storage=storage, study_name="search", direction="maximize", pruner=pruner, load_if_exists=True
        )

    def counted(self) -> list[FrozenTrial]:
        """The trials that used up budget, in order."""
        return self.study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))

    @property
    def finished(self) -> bool:
        """Whether all trials of the budget have run."""
        return len(self.counted()) >= self.settings.trials

    def run(
        self, objective: Callable[[Attempt], float], told: "Callable[[Search], Any]" = lambda search: None
    ) -> None:
        """Try until the budget is used up. `objective` gives the score, higher is better, or raises Pruned.

        Any other exception ends the search; the next `run` begins with the same values. `told` hears
        of every trial that ended. Values that have a score already are not tried again.
        """
        for number in range(len(self.counted()), self.settings.trials):
            attempt = self._next(number)
            whole = [record for record in self.records() if record["score"] is not None]
            known = next((record for record in whole if record["values"] == attempt.values), None)
            try:
                if known:
                    remains = {name: known[name] for name in REMAINS if name in known}
                    attempt.note(repeats=known["trial"], tokens={}, seconds=0.0, **remains)
                score = known["score"] if known else objective(attempt)
                self.study.tell(attempt.trial, score)
            except Pruned as pruned:
                attempt.note(pruned=str(pruned))
                self.study.tell(attempt.trial, state=TrialState.PRUNED)
            told(self)

    def records(self) -> list[dict[str, Any]]:
        """Every counted trial as plain values; the score of a pruned one is None."""
        return [_record(number, trial) for number, trial in enumerate(self.counted())]

    def best(self) -> dict[str, Any]:
        """The record of the best trial that ran to its end. Raises ConfigError where none did."""
        whole = [record for record in self.records() if record["score"] is not None]
        if not whole:
            then = "raise experiment.random_trials, or see in trials.jsonl why they were given up"
            raise ConfigError(f"none of {len(self.counted())} trials ran to its end; {then}")
        return max(whole, key=lambda record: record["score"])

    def _next(self, number: int) -> Attempt:
        """The attempt that an interruption left, the next reduced configuration, or a draw."""
        for left in self.study.get_trials(states=(TrialState.RUNNING,)):
            self.study.tell(left.number, state=TrialState.FAIL)
            kept = {"params": left.params, "distributions": left.distributions}
            again = {"state": TrialState.WAITING, "intermediate_values": left.intermediate_values}
            self.study.add_trial(optuna.trial.create_trial(**again, **kept))
        keys = self.settings.reduced[number] if self.settings.reduced else self.settings.space
        if self.settings.reduced and not self.study.get_trials(states=(TrialState.WAITING,)):
            self.study.enqueue_trial(dict(self.settings.reduced[number]))
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        first = self.settings.random_trials
        self.study.sampler = optuna.samplers.TPESampler(n_startup_trials=first, seed=seed)
        trial = self.study.ask()
        values: dict[str, Any] = {}
        for key in keys:
            other, needed = ITS_CONDITION
            if key != TEMPERATURE or other not in keys or values[other] == needed:
                values[key] = trial.suggest_categorical(key, self.settings.space[key])
        return Attempt(number, values, trial, self.study.trials[trial.number].intermediate_values.keys())


def overrides(values: Mapping[str, Any], tuning: Mapping[str, Any] | None = None) -> list[str]:
    """Values as `key=value` words that a shell passes on unchanged.

    With the budget that found them, and the test split to report: what was tuned on dev is not judged there.
    """
    words = [f"{key}={value}" for key, value in values.items()]
    if tuning:
        words += [f"experiment.tuning.{key}={value}" for key, value in tuning.items()]
        words.append("profile.report=[test]")
    return words


def _settings(config: RunConfig, skipped: Sequence[str]) -> SearchSettings:
    """The declaration without the keys that do not concern an arm. ConfigError where it is not sound."""
    said = config.experiment
    skipped = (*skipped, *(OF_ADAPTERS if config.training.full_finetuning else ()))
    space = {key: choices for key, choices in said["space"].items() if key not in skipped}
    for key, choices in space.items():
        if not (isinstance(choices, list) and choices):
            raise ConfigError(f"experiment.space.{key} is {choices}; allowed: a list of choices")
    reduced: tuple[dict[str, Any], ...] = ()
    if config.model.name not in said["full_models"]:
        reduced = tuple({k: v for k, v in one.items() if k not in skipped} for one in said["reduced"])
    for number, values in enumerate(reduced):
        for key, value in values.items():
            if value not in space.get(key, ()):
                allowed = ", ".join(map(str, space.get(key, space)))
                what = f"experiment.reduced[{number}].{key}={value} is outside experiment.space"
                raise ConfigError(f"{what}; allowed: {allowed}")
    trials = len(reduced) or said["trials"]
    return SearchSettings(space, trials, reduced, said["random_trials"], said["warmup_reports"])


def _allowed(settings: SearchSettings, key: str) -> str:
    """The choices of a key in words; in a reduced search those that its configurations name."""
    if key not in settings.space:
        return "not searched"
    named = [one[key] for one in settings.reduced if key in one] if settings.reduced else settings.space[key]
    return ", ".join(dict.fromkeys(map(str, named))) or "as configured"


def _record(number: int, trial: FrozenTrial) -> dict[str, Any]:
    return {
        "trial": number,
        "state": trial.state.name.lower(),
        "score": trial.value if trial.state is TrialState.COMPLETE else None,
        "values": trial.params,
        "reports": sorted(trial.intermediate_values.items()),
        **trial.user_attrs,
    }
