"""Tokens: read from Kaggle's secrets or the environment, handed to libraries, and written nowhere.

    for note in use_secrets():        # sets WANDB_API_KEY and HF_TOKEN, or goes offline and says so
        print(note)

A missing token is no error: wandb logs offline and gated models stay out of reach. `redact` and
`refuse_secrets` guard the two ways out, text that comes back from a program and files for upload.
"""

import os
from collections.abc import Mapping, MutableMapping

from kaggle_kit.core.errors import KitError
from kaggle_kit.core.runtime import kaggle_run_type

WANDB, HUB, API = "WANDB_API_KEY", "HF_TOKEN", "OPENAI_API_KEY"
TOKENS = (WANDB, HUB, API, "HUGGING_FACE_HUB_TOKEN", "KAGGLE_KEY", "KAGGLE_API_TOKEN")
SHORTEST = 8  # characters; anything shorter is no token and would hit ordinary words


class SecretLeak(KitError):
    """A text that was about to be written or sent holds the value of a token."""


def read_secret(name: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the token called `name`: from the environment, else the Kaggle notebook's own, else None."""
    if value := environ.get(name):
        return value
    if kaggle_run_type(environ) is None:
        return None
    try:
        from kaggle_secrets import UserSecretsClient

        return UserSecretsClient().get_secret(name) or None
    except Exception:  # not attached, or no network: Kaggle's own error types are not documented
        return None


def use_secrets(environ: MutableMapping[str, str] = os.environ) -> list[str]:
    """Give wandb and the hub their tokens by their own variables; a note for each, without its value."""
    notes = []
    for name, missing in ((WANDB, "wandb logs offline"), (HUB, "only public models can be downloaded")):
        if value := read_secret(name, environ):
            environ[name] = value
            notes.append(f"{name}: found")
        else:
            notes.append(f"{name}: not found, so {missing}; attach a Kaggle secret or set the variable")
    if not environ.get(WANDB):
        environ.setdefault("WANDB_MODE", "offline")
    return notes


def redact(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return `text` with the value of every known token replaced by its name."""
    for name, value in _values(environ):
        text = text.replace(value, f"[{name}]")
    return text


def hub_fault(error: Exception, lacking: str) -> str:
    """Return why the hub gave nothing, without any token, and what to do."""
    reason = redact(str(error).strip().partition("\n")[0]) or type(error).__name__
    then = f"check the name and the network, set {HUB} where it is gated, or give a folder that holds it"
    return f"the hub gives no {lacking} ({reason}); {then}"


def refuse_secrets(text: str, what: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return `text` itself; SecretLeak naming the token where `text` holds one."""
    for name, value in _values(environ):
        if value in text:
            then = "on Kaggle, attach it to the notebook under Add-ons > Secrets"
            raise SecretLeak(f"{what} holds the value of {name}; take it out of the parameters: {then}")
    return text


def _values(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, environ[name]) for name in TOKENS if len(environ.get(name, "")) >= SHORTEST]
