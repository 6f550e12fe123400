"""Fixtures of the trainer's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.datasets import make_dataset
from tests.support.trainings import Place


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty workspace with the data set `discs` (9 images)."""
    # For trainings in processes of their own, too: no test leaves anything in the user's cache.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    result = Place(tmp_path)
    make_dataset(result.workspace, count=9)
    return result
