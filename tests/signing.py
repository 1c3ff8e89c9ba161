"""Run folders that a test changed by hand, signed anew: what is tested is what lies behind the signature."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.core.integrity import signed


def sign(run: RunFolder, manifest: Mapping[str, Any] | None = None) -> None:
    """As if the run had finished with its files as they are now, and with this manifest."""
    held = json.loads(run.manifest_json.read_text()) if manifest is None else manifest
    run.manifest_json.write_text(json.dumps(signed(run.path, held)))
