"""A private dataset with the kit and the wheels that Kaggle's image lacks, for pages without internet.

    build_dataset(Path("build/kit-dataset"), owner="jane")       # then: kaggle datasets create -p FOLDER

All files lie flat: the client drops sub-folders unless told otherwise.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from kaggle_kit.core.errors import KitError
from kaggle_kit.core.records import write_atomically
from kaggle_kit.kaggle.bundle import KIT_FILE, pack
from kaggle_kit.kaggle.names import checked

SLUG = "kaggle-kit-wheels"
# What the image of 2026 lacks, with the one dependency that has no wheel on the index.
LACKING = ("hydra-core>=1.3.2", "antlr4-python3-runtime==4.9.*", "bitsandbytes>=0.46.1")


class WheelsMissing(KitError):
    """pip could not get or build the wheels."""


def build_dataset(folder: Path, owner: str, packages: Sequence[str] = LACKING) -> Path:
    """Fill `folder` and return it. `datasets create` without `-u` makes it private.

    The wheels are for any Python 3 on the architecture of this machine. Raises WheelsMissing.
    """
    described = {
        "title": SLUG.replace("-", " ").capitalize(),
        "id": f"{checked('owner', owner)}/{SLUG}",
        "licenses": [{"name": "apache-2.0"}],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / KIT_FILE).write_bytes(pack())
    write_atomically(folder / "dataset-metadata.json", json.dumps(described, indent=2) + "\n")
    if packages:
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
        done = subprocess.run([*command, *packages], capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["no reason given"]
            raise WheelsMissing(f"no wheels of {', '.join(packages)}: {said[-1]}; try again with a network")
    return folder
