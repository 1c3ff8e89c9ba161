"""A shared folder on the hub: private unless the owner says otherwise.

address = push(run, "me/my-model", Terms(), private=True)
"""

import tempfile
from pathlib import Path

import huggingface_hub

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.errors import ConfigError, KitError
from kaggle_kit.core.secrets import HUB, read_secret, redact
from kaggle_kit.export.card import Terms
from kaggle_kit.export.folder import export_run


def push(run: RunFolder, repository: str, terms: Terms, private: bool) -> str:
    """Export a run, upload it, and return its address on the hub.

    Raises ConfigError without a token, for a public repository where a private one is meant, and where the
    hub refuses; and what `export_run` raises.
    """
    token = read_secret(HUB) or huggingface_hub.get_token()
    if not token:
        raise ConfigError(
            f"the hub takes nothing without a token: set {HUB} to one that may write, or `hf auth login`"
        )
    with tempfile.TemporaryDirectory() as place:
        folder = export_run(run, Path(place) / "export", terms)
        api = huggingface_hub.HfApi(token=token)
        try:
            created = api.create_repo(repository, private=private, exist_ok=True)
            if private and not api.model_info(repository).private:
                raise ConfigError(
                    f"{repository} is there and public; name another one, make it private, or say --public"
                )
            api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message=f"Share the run {run.run_id}"
            )
        except KitError:
            raise
        except Exception as error:  # its client has errors of its own, and those of two libraries below it
            reason = redact(next(iter(str(error).strip().splitlines()), type(error).__name__))
            raise ConfigError(
                f"the hub did not take {repository} ({reason}); check name, token, rights and the network"
            ) from error
    return str(created)
