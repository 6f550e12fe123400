"""Fixtures of the trainer's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.datasets import make_dataset
from tests.support.trainings import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty workspace with the data set `discs` (9 images)."""
    result = Place(tmp_path)
    make_dataset(result.workspace, count=9)
    return result
