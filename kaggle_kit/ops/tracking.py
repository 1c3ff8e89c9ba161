"""Following a run from elsewhere: its figures on Weights & Biases, by the library's own callback.

    python -m kaggle_kit run s1_single_task training.report_to=wandb

    report_to = open_tracking(config, run)       # "none", or "wandb" with the run opened there

Figures and settings go there and nothing else: no console output, no code, no weights, and so no word
of a corpus. With a token (`core/secrets.py`) the run is seen online; without one it is kept in the run
folder, for `wandb sync` at any time. The service never stops a run: where it cannot be reached, the
files are kept, too.
"""

from __future__ import annotations

import hashlib
import os
import sys

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runtime import logger
from kaggle_kit.core.schema import RunConfig
from kaggle_kit.core.secrets import WANDB, use_secrets

PROJECT = "kaggle-kit"
PATIENCE_SECONDS = 30  # for the service's first answer


def open_tracking(config: RunConfig, run: RunFolder) -> str:
    """What the trainer reports to. A run that goes on, or enters its next phase, is the same one there.

    Raises ConfigError where the environment asks the callback to upload weights.
    """
    if config.training.report_to == "none":
        return "none"
    if os.environ.get("WANDB_LOG_MODEL", "false").lower() not in ("false", "0"):
        raise ConfigError(
            f"WANDB_LOG_MODEL={os.environ['WANDB_LOG_MODEL']}: weights are not sent to a service, because "
            "they have read what may be under a data use agreement; unset it, they lie in the run folder"
        )
    note = next(note for note in use_secrets() if note.startswith(WANDB))
    logger.info("%s", note)
    import wandb

    if wandb.run is not None and wandb.run.name == run.run_id:
        return "wandb"
    close_tracking()
    for mode in dict.fromkeys((os.environ.get("WANDB_MODE", "online"), "offline")):
        try:
            _init(run, mode)
            return "wandb"
        except Exception as error:  # its core, its network and the service have errors of their own
            logger.warning("wandb %s did not start: %s", mode, type(error).__name__)
    return "none"


def close_tracking() -> None:
    """Finish the run there, if one is open; what is offline stays in the run folder."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()


def _init(run: RunFolder, mode: str) -> None:
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
        mode=mode,
        resume="allow" if online else None,
        settings=quiet,
    )
