"""The open maps of a configuration: a key that nothing reads is an error that names the nearest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kaggle_kit.core.checks import ANY_RUN, EVERY_FORMAT, OPTIONS
from kaggle_kit.core.config import compose
from kaggle_kit.core.errors import ConfigError
from kaggle_kit.core.runs import start_run
from kaggle_kit.data.formats import FORMATS
from kaggle_kit.data.registry import task, task_names

KIT = Path(__file__).resolve().parents[2] / "kaggle_kit"
EXCLUSION = ["experiment=mimic_exclusion", "strategy=s3a_flat"]
FOUR = ["semeval2014t7", "semeval2015t14", "semeval2021t6", "semeval2017t3"]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([*EXCLUSION, "experiment.amr=excluded"], "unknown key 'experiment.amr'.* did you mean 'arm'"),
        (["experiment.arm=excluded"], "unknown key 'experiment.arm'.*experiment=mimic_exclusion"),
        (["experiment=token_controlled", "experiment.margin.f2=0.1"], "'experiment.margin.f2'.* 'f1'"),
        (["experiment.tuning.trails=3"], "'experiment.tuning.trails'.* did you mean 'trials'"),
        (["experiment.tuning={trails: 3}"], "'experiment.tuning.trails'.* did you mean 'trials'"),
        (["experiment=ood", "experiment.practice={term: 9}"], "'experiment.practice.term'.* 'terms'"),
    ],
)
def test_an_experiment_key_that_nothing_reads_is_refused_with_the_nearest(overrides, told):
    with pytest.raises(ConfigError, match=told):
        compose(task=FOUR, strategy="s2_shared", overrides=overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        [*EXCLUSION, "experiment.arm=excluded"],
        ["experiment.tuning.trials=20", "experiment.tuning.split=dev", "experiment.tuning.study=x"],
        ["experiment=token_controlled", "experiment.test=paired", "experiment.resamples=500"],
        ["experiment=ood", "experiment.types={Anything: Disease}", "experiment.practice={documents: 9}"],
    ],
)
def test_what_the_experiments_file_or_any_run_may_hold_is_taken(overrides):
    assert compose(task=FOUR, strategy="s2_shared", overrides=overrides).experiment


def test_an_option_that_no_reader_looks_at_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="options.subtsk'; format cqa allows: .* did you mean 'subtask'"):
        compose(task="semeval2017t3", overrides=["tasks.semeval2017t3.options.subtsk=B"])
    with pytest.raises(ConfigError, match="format share_pipe allows: text_folder"):
        compose(overrides=["tasks.semeval2014t7.options.subtask=B"])
    config = compose(overrides=["tasks.semeval2014t7.options.text_folder=texts"])
    assert config.tasks["semeval2014t7"].options == {"text_folder": "texts"}


@pytest.mark.parametrize("key", ["layout.devel=[devel]", "held_out.devel={source: train}"])
def test_a_split_that_there_is_not_is_refused_with_the_nearest(key):
    with pytest.raises(ConfigError, match="devel'; allowed: train, dev, test — did you mean 'dev'"):
        compose(overrides=[f"tasks.semeval2014t7.{key}"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["scorer=bratt"], "scorer=bratt is not legal; .* did you mean 'brat'"),
        (["format=jsnl"], "format=jsnl is not legal; .* did you mean 'jsonl'"),
        (
            ["format=pubtator"],
            "scorer=brat compares brat files, and the task's format is pubtator; .*: pubtator$",
        ),
        (["format=conll", "scorer=measeval"], "compares measeval files, .*: semeval2017t3, brat"),
        (["format=jsonl", "scorer=semeval2017t3"], "does not score component 'ner', which is token_class"),
        (["components.0.kind=sequence_ranking"], "scorer=brat does not score component 'ner'"),
        (["options.dataset=a/b"], "format brat allows: text_folder"),
    ],
)
def test_a_scorer_that_cannot_score_the_format_or_a_component_is_refused(changes, told):
    with pytest.raises(ConfigError, match=rf"(?m){told}"):
        compose(task="ddi2013", overrides=[f"tasks.ddi2013.{change}" for change in changes])


@pytest.mark.parametrize("name", FORMATS)
def test_the_options_of_a_format_are_those_that_its_reader_looks_at(name):
    text = (KIT / "data" / "formats" / f"{name}.py").read_text()
    assert set(re.findall(r'reading\.options(?:\.get\(|\[)"(\w+)"', text)) == set(OPTIONS.get(name, ()))


def test_every_layout_that_depends_on_an_option_belongs_to_a_format_that_has_one():
    depending = [name for name in task_names() if any("@" in key for key in task(name).layout)]
    assert {task(name).format for name in depending} <= set(OPTIONS) and EVERY_FORMAT == ("text_folder",)


def test_what_any_run_may_hold_is_read_somewhere():
    sources = [path.read_text() for path in KIT.rglob("*.py") if path.name != "checks.py"]
    assert all(any(f'"{key}"' in text for text in sources) for key in ANY_RUN)


def test_a_twin_is_refused_on_any_page_but_the_one_that_settles_it(tmp_path):
    config = compose(overrides=["experiment=token_controlled", "experiment.twin=some-run"])
    with pytest.raises(ConfigError, match="experiment.twin=some-run .* page token_controlled alone"):
        start_run(config, page="s1_single_task", runs_dir=tmp_path)
    assert not list(tmp_path.iterdir())
