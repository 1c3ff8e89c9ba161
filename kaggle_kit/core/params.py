"""The files of the configuration: those that are shipped, and a user's own in front of them.

members("model"); params_file("model/minilm.yaml")

$KAGGLE_KIT_PARAMS names a folder of own files, laid out as `params/` is. A file of a shipped name takes its
place; any other is added. Nothing of a shipped file is merged into an own one.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from kaggle_kit.core.errors import ConfigError, nearest
from kaggle_kit.core.runtime import SOURCE_ROOT

GROUPS = ("model", "task", "strategy", "profile", "experiment")
FILLED = (*GROUPS, "study", "api")  # groups to which an own file adds a member; of others it replaces one
OWN = "KAGGLE_KIT_PARAMS"


def params_dir() -> Path:
    """Return the folder of the shipped files, `params/` beside the package."""
    folder = SOURCE_ROOT / "params"
    if not folder.is_dir():
        raise ConfigError(f"no configuration at {folder}; run from a checkout of the project")
    return folder


def own_params() -> Path | None:
    """Return the folder that $KAGGLE_KIT_PARAMS names; None where it names none.

    ConfigError where it is no folder, holds no file that would be read, or one that never would be.
    """
    named = os.environ.get(OWN)
    folder = Path(named or params_dir()).expanduser().resolve()
    if folder == params_dir():
        return None
    found = _yaml_files(folder)
    problems = [problem for file in found for problem in _unread(folder, file.relative_to(folder))]
    if not folder.is_dir():
        problems = ["there is no such folder; name one of files such as model/mine.yaml"]
    elif not found:
        problems = ["the folder holds no file such as model/mine.yaml or task/mine.yaml"]
    if problems:
        raise ConfigError(f"{OWN}={named}: " + "\n".join(problems))
    return folder


def own_files() -> list[Path]:
    """Return the user's own files, sorted; none where $KAGGLE_KIT_PARAMS names no folder."""
    folder = own_params()
    return _yaml_files(folder) if folder else []


def members(group: str) -> list[str]:
    """Return the names that a group offers, shipped or own, sorted."""
    files = [*(params_dir() / group).glob("*.yaml"), *(f for f in own_files() if f.parent.name == group)]
    return sorted({file.stem for file in files if not file.name.startswith(".")})


def params_file(place: str) -> Path:
    """Return the file at a place such as `model/minilm.yaml`: the user's own where there is one."""
    own = own_params()
    return own / place if own and (own / place).is_file() else params_dir() / place


def place_of(file: Path) -> str:
    """Return the name by which messages refer to a file of the configuration."""
    shipped = params_dir()
    return file.relative_to(shipped.parent).as_posix() if file.is_relative_to(shipped) else str(file)


def _yaml_files(folder: Path) -> list[Path]:
    """Those in the folder and its sub-folders, without what hides behind a dot."""
    places = (file.relative_to(folder) for pattern in ("*", "*/*") for file in folder.glob(pattern))
    seen = (place for place in places if not any(part.startswith(".") for part in place.parts))
    return sorted(folder / place for place in seen if place.suffix in (".yaml", ".yml"))


def _unread(folder: Path, place: Path) -> Iterator[str]:
    """Yield why nothing would read an own file at this place."""
    group, groups = place.parent.name, sorted(path.name for path in params_dir().iterdir() if path.is_dir())
    if group not in groups:
        hint = nearest(group, groups) if group else ""
        yield f"{place} lies in no group; allowed: {', '.join(f'{one}/' for one in groups)}{hint}"
    elif place.suffix != ".yaml":
        yield f"{place} is not read; call it {place.with_suffix('.yaml')}"
    shipped = sorted(file.stem for file in (params_dir() / group).glob("*.yaml"))
    if group in groups and group not in FILLED and place.stem not in shipped:
        yield f"{place} is not read; allowed: {', '.join(shipped)}{nearest(place.stem, shipped)}"
    try:
        (folder / place).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        yield f"{folder / place} is not UTF-8; save it as UTF-8 text"
