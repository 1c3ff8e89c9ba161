"""A built kernel and a built dataset in an image without hydra or bitsandbytes, with the network off."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import nbformat
import pytest

from kaggle_kit.core.artifacts import RunFolder
from kaggle_kit.kaggle import bundle
from kaggle_kit.kaggle.build import Experiment, build_experiment
from kaggle_kit.kaggle.bundle import LACKING, build_dataset
from kaggle_kit.kaggle.metadata import Sources
from tests.kaggle_service.counting import COUNTING

NOT_IN_THE_IMAGE = ("antlr4", "bitsandbytes", "hydra", "ipykernel", "kaggle_kit", "__editable__")
ALONE = "import socket; assert [name for _, name in socket.if_nameindex()] in ([], ['lo'])"


def cut_off() -> list[str]:
    """The command in front of one that is to run without any network."""
    for prefix in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        try:
            subprocess.run([*prefix, "true"], capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return prefix
    if os.geteuid() == 0:
        pytest.fail("root cannot run `unshare --net`, so the offline path was not tried")
    pytest.skip("`unshare --net` needs root, or a system that lets users make namespaces")


def image_python(folder: Path) -> Path:
    """The interpreter of an environment with the packages of this one, without those the image lacks."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.check_output([python, "-c", asked], text=True).strip())
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.lower().startswith(NOT_IN_THE_IMAGE):
            (site / path.name).symlink_to(path)
    return python


def shelf(folder: Path) -> Path:
    """Wheels as an index would give them: two of what is installed here, an empty one of the largest."""
    folder.mkdir()
    for name in ("hydra-core", "antlr4-python3-runtime"):
        found = distribution(name)
        wheel = folder / f"{name.replace('-', '_')}-{found.version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for file in found.files:
                if ".." not in file.parts and file.suffix != ".pyc":
                    archive.write(found.locate_file(file), str(file))
    with zipfile.ZipFile(folder / "bitsandbytes-0.46.1-py3-none-any.whl", "w") as archive:
        about = "bitsandbytes-0.46.1.dist-info"
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: bitsandbytes\nVersion: 0.46.1\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return folder


def session(tmp_path: Path, monkeypatch, packages) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The cells of a kernel that was built for the internet off, and the run folder they should leave."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf(tmp_path / "shelf")))
    monkeypatch.setattr(bundle, "KAGGLE_INPUT", tmp_path / "input")
    build_dataset(tmp_path / "input" / "datasets" / "jane" / "kaggle-kit-wheels", "jane", packages)
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "counting.py").write_text(COUNTING)
    experiment = Experiment.of("counting", tmp_path / "pages")
    sources = Sources(kit="jane/kaggle-kit-wheels")
    built = build_experiment(experiment, tmp_path / "built", "jane", sources, tmp_path / "pages")
    page = nbformat.read(next(built.folder.glob("*.ipynb")), as_version=4)
    cells = [ALONE, *(cell.source for cell in page.cells if cell.cell_type == "code")]
    (tmp_path / "working").mkdir()
    command = [*cut_off(), image_python(tmp_path / "image"), "-c", "\n".join(cells)]
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    environ |= {"KAGGLE_KIT_KAGGLE_ROOT": str(tmp_path), "KAGGLE_KERNEL_RUN_TYPE": "Batch"}
    done = subprocess.run(command, cwd=tmp_path / "working", env=environ, capture_output=True, text=True)
    return done, tmp_path / "working" / built.run_dir


def test_a_kernel_without_internet_installs_the_attached_wheels_and_finishes_its_run(tmp_path, monkeypatch):
    done, run = session(tmp_path, monkeypatch, LACKING)
    assert RunFolder.open(run).finished, done.stdout + done.stderr
    installed = [line for line in done.stdout.splitlines() if line.startswith("packages: ")]
    assert installed == ["packages: installed bitsandbytes>=0.46.1", "packages: installed hydra-core>=1.3.2"]


def test_a_package_without_a_wheel_stops_the_first_cell_which_names_it(tmp_path, monkeypatch):
    done, run = session(tmp_path, monkeypatch, LACKING[:2])
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "the image lacks bitsandbytes>=0.46.1 (ERROR: No matching distribution" in last
    assert "kernels dataset --package" in last
    assert list((tmp_path / "image").rglob("site-packages/hydra/__init__.py"))  # which has a wheel
    assert not run.exists()
