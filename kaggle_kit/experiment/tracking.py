"""Following a run from elsewhere: its figures on Weights & Biases.

    python -m kaggle_kit run s1_single_task training.report_to=wandb

    follow(config, run, callbacks)               # every step of the run's log goes there, too
    close_tracking(run)                          # and its final scores and totals

The whole configuration and numbers go there and nothing else: of a step its losses per task, tokens per
task and in total, conflicts, memory, speed, quick evaluation; no console output, no code, no weights, no
text of a step, and so no word of a corpus. With a token (`core/secrets.py`) the run is seen online; without
one it is kept in the run folder, for `wandb sync` at any time. The service never stops a run: where it
cannot be reached, the files are kept, too.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.config import without_machine_keys
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.records import flat
from kaggle_kit.core.runtime import logger
from kaggle_kit.core.schema import RunConfig, plain_values
from kaggle_kit.core.secrets import WANDB, use_secrets
from kaggle_kit.training.callbacks.log import RunLogCallback

PROJECT = "kaggle-kit"
PATIENCE_SECONDS = 30  # for the service's first answer


def follow(config: RunConfig, run: RunFolder, callbacks: Iterable[Any]) -> None:
    """Send every event of the run's log on, if `training.report_to` says so (`open_tracking`)."""
    if open_tracking(config, run):
        for callback in callbacks:
            if isinstance(callback, RunLogCallback):
                callback.send = send


def send(event: Mapping[str, Any]) -> None:
    """Send the numbers of one step: `losses/TASK`, `tokens/TASK`, `tokens/all`, `conflicts/…`, and so on."""
    numbers = {key: value for key, value in flat(event, joint="/").items() if isinstance(value, int | float)}
    if "tokens" in event:
        numbers["tokens/all"] = sum(event["tokens"].values())
    _try("log", lambda run: run.log(numbers))


def open_tracking(config: RunConfig, run: RunFolder) -> bool:
    """Open the run there, or go on with it in a later session or phase; False where it is not open.

    Raises ConfigError where the environment asks the library to upload weights.
    """
    if config.training.report_to == "none":
        return False
    if os.environ.get("WANDB_LOG_MODEL", "false").lower() not in ("false", "0"):
        asked = f"unset WANDB_LOG_MODEL={os.environ['WANDB_LOG_MODEL']}"
        raise ConfigError(f"{asked}: weights are not sent to a service, they may hold restricted text")
    note = next(note for note in use_secrets() if note.startswith(WANDB))
    logger.info("%s", note)
    import wandb

    if wandb.run is not None and wandb.run.name == run.run_id:
        return True
    close_tracking()
    for mode in dict.fromkeys((os.environ.get("WANDB_MODE", "online"), "offline")):
        try:
            _init(config, run, mode)
            return True
        except Exception as error:  # its core, its network and the service have errors of their own
            logger.warning("wandb %s did not start: %s", mode, type(error).__name__)
    return False


def close_tracking(run: RunFolder | None = None) -> None:
    """Finish the run there, if one is open, with the scores of `run`; what is offline stays in its folder."""
    if run is not None:
        scores = {f"{metric.task}/{metric.split}/{metric.name}": metric.value for metric in run.metrics()}
        _try("summary", lambda there: there.summary.update(scores))
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()


def _try(what: str, call: Callable[[Any], None]) -> None:
    """Call the library on the open run; log an error of its own instead of ending the training."""
    wandb = sys.modules.get("wandb")
    if wandb is None or wandb.run is None:
        return
    try:
        call(wandb.run)
    except Exception as error:
        logger.warning("wandb %s failed, the run goes on: %s", what, type(error).__name__)


def _init(config: RunConfig, run: RunFolder, mode: str) -> None:
    import wandb

    online = mode == "online"
    started = f"{run.run_id} {run.facts['started']}"
    quiet = wandb.Settings(
        console="off", disable_code=True, disable_git=True, silent=True, init_timeout=PATIENCE_SECONDS
    )
    wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=run.run_id,
        id=hashlib.sha256(started.encode()).hexdigest()[:16] if online else None,
        dir=str(run.path),
        mode=mode,  # type: ignore[arg-type]  # WANDB_MODE as it is; the library refuses unknown ones
        resume="allow" if online else None,
        settings=quiet,
        config=without_machine_keys(plain_values(config)),
    )
    if wandb.run is not None:
        wandb.run.define_metric("*", step_metric="step")
