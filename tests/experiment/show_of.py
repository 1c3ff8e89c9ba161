"""What a page would show, caught before it is displayed."""

from __future__ import annotations

import pytest

from kaggle_kit.experiment.show import views


@pytest.fixture
def displayed(monkeypatch) -> list[str]:
    """The text of everything that is shown, in order; figures as `Image`."""
    kept: list[str] = []
    monkeypatch.setattr(
        views, "display", lambda view: kept.append(getattr(view, "text", type(view).__name__))
    )
    return kept
