"""Tokens are found, handed on, and kept out of every text."""

from __future__ import annotations

import sys
import types

import pytest

from kaggle_kit.core.secrets import SecretLeak, read_secret, redact, refuse_secrets, use_secrets

PLANTED = "wb-0123456789abcdef"


def test_a_missing_token_means_offline_and_a_note():
    environ: dict[str, str] = {}
    notes = use_secrets(environ)
    assert environ == {"WANDB_MODE": "offline"}
    assert notes[0].startswith("WANDB_API_KEY: not found, so wandb logs offline")
    assert notes[1].startswith("HF_TOKEN: not found")


def test_a_token_in_the_environment_is_used_and_its_value_is_in_no_note():
    environ = {"WANDB_API_KEY": PLANTED}
    notes = use_secrets(environ)
    assert "WANDB_MODE" not in environ
    assert notes[0] == "WANDB_API_KEY: found"
    assert PLANTED not in "".join(notes)


def test_on_kaggle_the_attached_secret_is_asked_for_by_its_label(monkeypatch):
    asked = []

    class Client:
        def get_secret(self, label: str) -> str:
            asked.append(label)
            if label == "HF_TOKEN":
                raise ConnectionError("not attached")
            return PLANTED

    monkeypatch.setitem(sys.modules, "kaggle_secrets", types.SimpleNamespace(UserSecretsClient=Client))
    environ = {"KAGGLE_KERNEL_RUN_TYPE": "Batch"}
    use_secrets(environ)
    assert asked == ["WANDB_API_KEY", "HF_TOKEN"]
    assert environ["WANDB_API_KEY"] == PLANTED
    assert "HF_TOKEN" not in environ


def test_away_from_kaggle_only_the_environment_is_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "kaggle_secrets", types.SimpleNamespace())
    assert read_secret("HF_TOKEN", {}) is None


def test_a_text_is_redacted_and_a_file_for_upload_refused():
    environ = {"WANDB_API_KEY": PLANTED, "HF_TOKEN": "ab"}
    assert redact(f"key={PLANTED} about", environ) == "key=[WANDB_API_KEY] about"
    assert refuse_secrets("about", "the page", environ) == "about"
    with pytest.raises(SecretLeak, match="the page holds the value of WANDB_API_KEY") as caught:
        refuse_secrets(f"x{PLANTED}", "the page", environ)
    assert PLANTED not in str(caught.value)
