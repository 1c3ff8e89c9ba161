"""A hyper-parameter search that can be interrupted, counted and told: Optuna's sampler, pruner and journal.

    search = Search(search_settings(config), run.path, seed=config.seed)
    search.run(lambda attempt: score_of(attempt.values))
    search.best().values, search.records()

The space, the number of trials and the reduced configurations are declared under `experiment` before
the search. A trial that was pruned early counts like any other, so arms with one declaration have one
budget. What a trial draws depends on the seed and on the trials before it alone, so an interrupted
search goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from kaggle_kit.core.errors import ConfigError, KitError
from kaggle_kit.core.schema import RunConfig

DECLARED = {"split", "space", "trials", "random_trials", "warmup_reports", "full_models", "reduced"}
SPLIT = "dev"  # what a hyper-parameter may be chosen on
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
# Of no consequence where one task is trained, so a single-task arm does not spend trials on them.
SEVERAL_TASKS = ("strategy.sampling", "strategy.temperature", "strategy.loss_weighting")
# Of no consequence where a run's tokens are given, and where its steps and its parameters are, too.
WITH_TOKENS = ("training.epochs",)
OF_A_BASELINE = ("training.effective_batch", "strategy.rank")
ARMS = {
    "multi-task": (),
    "single-task": SEVERAL_TASKS,
    "token-controlled": (*SEVERAL_TASKS, *WITH_TOKENS, *OF_A_BASELINE),
}
TEMPERATURE, ITS_CONDITION = "strategy.temperature", ("strategy.sampling", "temperature")
REMAINS = ("trainable_parameters", "device")  # of a trial that is not repeated
REPORTED = "reported"  # user attribute: what an interrupted trial had reported


class Pruned(KitError):
    """A trial is given up early: it lies behind the others, or it diverged. It counts all the same."""


@dataclass(frozen=True)
class SearchSettings:
    """What is searched, and how often.

    `reduced` is empty for the full space, else one dictionary of values per trial. The first
    `random_trials` are drawn at random; nothing is pruned before that many have run to their end, nor
    before a trial's `warmup_reports`-th report.
    """

    space: Mapping[str, BaseDistribution]
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
    reports: dict[int, float] = field(default_factory=dict)

    def report(self, point: int, score: float) -> None:
        """The score so far at the `point`-th of equally spaced points, from 1. Raises Pruned."""
        if point in self.reports:  # an interrupted trial comes past a point that it had reached
            return
        self.reports[point] = score
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
    if said.get("split") != SPLIT:
        raise ConfigError(
            f"experiment.split={said.get('split')}: hyper-parameters are chosen on {SPLIT} only, for a "
            f"score that chose is no longer a measurement; set experiment.split={SPLIT}"
        )
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
        self.settings = settings
        self.seed = seed
        self.study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(folder / "study.journal"))),
            study_name="search",
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(settings.random_trials, settings.warmup_reports),
            load_if_exists=True,
        )

    def counted(self) -> list[FrozenTrial]:
        """The trials that used up budget, in order."""
        return self.study.get_trials(states=COUNTED)

    @property
    def finished(self) -> bool:
        return len(self.counted()) >= self.settings.trials

    def run(
        self, objective: Callable[[Attempt], float], told: Callable[[Search], Any] = lambda search: None
    ) -> None:
        """Try until the budget is used up. `objective` gives the score, higher is better, or raises Pruned.

        Any other exception ends the search; the next `run` begins with the same values. `told` hears
        of every trial that ended.
        """
        for number in range(len(self.counted()), self.settings.trials):
            attempt = self._next(number)
            if known := self._known(attempt.values):
                attempt.note(repeats=known["trial"], tokens={}, seconds=0.0)
                attempt.note(**{name: known[name] for name in REMAINS if name in known})
                self.study.tell(attempt.trial, known["score"])
                told(self)
                continue
            try:
                score = objective(attempt)
            except Pruned as pruned:
                attempt.note(pruned=str(pruned))
                self.study.tell(attempt.trial, state=TrialState.PRUNED)
            else:
                self.study.tell(attempt.trial, score)
            told(self)

    def records(self) -> list[dict[str, Any]]:
        """Every counted trial as plain values; the score of a pruned one is None."""
        return [_record(number, trial) for number, trial in enumerate(self.counted())]

    def best(self) -> dict[str, Any]:
        """The record of the best trial that ran to its end. Raises ConfigError where none did."""
        whole = [record for record in self.records() if record["score"] is not None]
        if not whole:
            raise ConfigError(
                f"none of {len(self.counted())} trials ran to its end; raise experiment.random_trials, or "
                "look into trials.jsonl for why they were given up"
            )
        return max(whole, key=lambda record: record["score"])

    def _next(self, number: int) -> Attempt:
        """The attempt that an interruption left, the next reduced configuration, or a draw."""
        known, reported = self._left_over()
        if known is None and self.settings.reduced:
            known = dict(self.settings.reduced[number])
        if known is not None and not self.study.get_trials(states=(TrialState.WAITING,)):
            self.study.enqueue_trial(known, user_attrs={REPORTED: reported})
        self.study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=self.settings.random_trials,
            seed=int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0]),
        )
        trial = self.study.ask()
        attempt = Attempt(number, self._values(trial, number), trial)
        for point, score in trial.user_attrs.get(REPORTED, {}).items():
            attempt.reports[int(point)] = score
            trial.report(score, int(point))
        return attempt

    def _known(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """The record of an earlier trial of the same values that ran to its end: it would score the same."""
        same = (record for record in self.records() if record["values"] == values)
        return next((record for record in same if record["score"] is not None), None)

    def _left_over(self) -> tuple[dict[str, Any] | None, dict[int, float]]:
        """Values and reports of the trial in which an earlier session ended; it is closed."""
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            self.study.tell(trial.number, state=TrialState.FAIL)
            return trial.params, trial.intermediate_values
        return None, {}

    def _values(self, trial: optuna.Trial, number: int) -> dict[str, Any]:
        keys = self.settings.reduced[number] if self.settings.reduced else self.settings.space
        values: dict[str, Any] = {}
        for key in keys:
            other, needed = ITS_CONDITION
            if key == TEMPERATURE and other in keys and values[other] != needed:
                continue
            values[key] = _suggest(trial, key, self.settings.space[key])
        return values


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
    said = config.experiment
    space = {key: _distribution(key, told) for key, told in said["space"].items() if key not in skipped}
    reduced: tuple[dict[str, Any], ...] = ()
    if config.model.name not in said["full_models"]:
        reduced = tuple({k: v for k, v in one.items() if k not in skipped} for one in said["reduced"])
        _check_reduced(reduced, space)
    trials = len(reduced) or said["trials"]
    return SearchSettings(space, trials, reduced, said["random_trials"], said["warmup_reports"])


def _allowed(settings: SearchSettings, key: str) -> str:
    """The choices of a key in words; in a reduced search those that its configurations name."""
    if key not in settings.space:
        return "not searched"
    if settings.reduced:
        named = dict.fromkeys(str(one[key]) for one in settings.reduced if key in one)
        return ", ".join(named) or "as configured"
    told = settings.space[key]
    if isinstance(told, CategoricalDistribution):
        return ", ".join(map(str, told.choices))
    return f"{told.low:g} to {told.high:g}"


def _suggest(trial: optuna.Trial, key: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(key, distribution.choices)
    return trial.suggest_float(key, distribution.low, distribution.high, log=distribution.log)


def _distribution(key: str, told: Any) -> BaseDistribution:
    if isinstance(told, list) and told:
        return CategoricalDistribution(told)
    if isinstance(told, dict) and {"low", "high"} <= told.keys() <= {"low", "high", "log"}:
        return FloatDistribution(told["low"], told["high"], log=told.get("log", False))
    raise ConfigError(
        f"experiment.space.{key} is {told}; allowed: a list of choices, or {{low: …, high: …, log: true}}"
    )


def _check_reduced(reduced: tuple[Mapping[str, Any], ...], space: Mapping[str, BaseDistribution]) -> None:
    for number, values in enumerate(reduced):
        for key, value in values.items():
            told = space.get(key)
            if isinstance(told, FloatDistribution):
                inside = told.low <= value <= told.high
            else:
                inside = told is not None and value in told.choices
            if not inside:
                raise ConfigError(
                    f"experiment.reduced[{number}].{key}={value} is outside experiment.space; allowed: "
                    f"{told or ', '.join(space)}"
                )


def _record(number: int, trial: FrozenTrial) -> dict[str, Any]:
    facts = {name: value for name, value in trial.user_attrs.items() if name != REPORTED}
    return {
        "trial": number,
        "state": trial.state.name.lower(),
        "score": trial.value if trial.state is TrialState.COMPLETE else None,
        "values": trial.params,
        "reports": sorted(trial.intermediate_values.items()),
        **facts,
    }
