"""A seed that some library refuses is an error of the configuration, before anything is made."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from kaggle_kit.cli.app import app
from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.schema import PracticeConfig
from kaggle_kit.data.practice import generate
from kaggle_kit.study.spec import load_selection

OUT = [-1, 2**32, 2**64]


@pytest.mark.parametrize("seed", [*OUT, 1.5, "x", True, None])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ConfigError, match="seed"):
        compose(seed=seed)
    with pytest.raises(ConfigError, match="seed"):
        compose(overrides=[f"seed={'null' if seed is None else str(seed).lower()}"])


@pytest.mark.parametrize("seeds", ["[1,-2]", "[1,4294967296]", "[a]", "[1.5]", "7", "abc"])
def test_the_declared_seeds_are_seeds(seeds):
    with pytest.raises(ConfigError, match=r"experiment\.seeds"):
        compose(overrides=["experiment=token_controlled", f"experiment.seeds={seeds}"])


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_the_ends_of_the_range_are_seeds(seed):
    assert compose(seed=seed).seed == seed


@pytest.mark.parametrize("seed", OUT)
def test_a_study_and_the_practice_corpora_refuse_the_same_seeds(tmp_path, seed):
    with pytest.raises(ConfigError, match="seeds"):
        load_selection("rq5_practice", [f"seeds=[1,{seed}]"])
    with pytest.raises(ConfigError, match=r"practice\.seed"):
        generate(tmp_path / "corpora", PracticeConfig(seed=seed))


@pytest.mark.parametrize("seed", OUT)
def test_the_command_refuses_it_before_a_folder_is_made(tmp_path, seed):
    words = ["run", "s1_single_task", "--seed", str(seed), "--runs-dir", str(tmp_path / "runs")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2 and "seed" in done.stderr
    assert not (tmp_path / "runs").exists()
