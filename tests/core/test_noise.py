"""Messages of libraries that are left out by name, and none beside them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest

import kaggle_kit
from kaggle_kit.core.noise import NO_GPU, OPTIONAL_KERNEL, leave_out_noise
from kaggle_kit.core.runtime import SOURCE_ROOT


@pytest.mark.parametrize(
    ("logger", "message", "gpu", "shown"),
    [
        ("bitsandbytes.backends.cpu.ops", f"{OPTIONAL_KERNEL}: No module named 'kernels'.", True, False),
        ("bitsandbytes.backends.cpu.ops", "The 4-bit kernel gave a wrong product", False, True),
        ("bitsandbytes.cextension", f"{NO_GPU}. 8-bit optimizers are unavailable.", False, False),
        ("bitsandbytes.cextension", f"{NO_GPU}. 8-bit optimizers are unavailable.", True, True),
        ("bitsandbytes.cextension", "CUDA Setup failed", False, True),
    ],
)
def test_only_what_is_named_is_left_out(logger, message, gpu, shown, monkeypatch, caplog):
    assert kaggle_kit.__version__
    cuda = SimpleNamespace(is_available=lambda: gpu)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    logging.getLogger(logger).warning(message)
    assert ([record.getMessage() for record in caplog.records] == [message]) is shown


def test_a_check_that_bitsandbytes_asks_of_torch_is_left_out_and_that_of_others_is_shown():
    text = "_check_is_size will be removed in a future PyTorch release"
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        leave_out_noise()
        for module in ("bitsandbytes.backends.cpu.ops", "kaggle_kit.models.tiny"):
            warnings.warn_explicit(text, FutureWarning, f"{module}.py", 1, module)
    assert [one.filename for one in shown] == ["kaggle_kit.models.tiny.py"]


def test_importing_what_trains_prints_nothing():
    command = [sys.executable, "-c", "import kaggle_kit.training.trainer"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    done = subprocess.run(command, cwd=SOURCE_ROOT, env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
