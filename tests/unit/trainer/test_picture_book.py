"""Pictures on the volume: written, replaced, thinned, and what happens where that fails."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest
from torch import nn

from kubeseg_trainer.engine import pictures
from kubeseg_trainer.engine.pictures import PictureBook
from kubeseg_trainer.run_directory import RunDirectory, open_run
from tests.unit.trainer.test_decisions import history


class _Task:
    """Draws its epoch's number."""

    def __init__(self) -> None:
        self.network = nn.Dropout()

    def draw(self, count: int, epoch: int) -> Mapping[str, bytes]:
        assert not self.network.training
        return {f"{number}.jpg": b"%d" % epoch for number in range(count)}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return open_run(tmp_path, job="j", uid="u", attempt=1)


def _draw(book: PictureBook, epoch: int, count: int = 2) -> None:
    task = _Task()
    book.draw(task, epoch, count=count, precision=nullcontext)  # type: ignore[arg-type]
    assert task.network.training


def test_an_epoch_that_is_done_again_replaces_its_pictures(run: RunDirectory) -> None:
    book = PictureBook(run)
    _draw(book, 3, count=3)
    _draw(PictureBook(run), 3)
    assert book.newest == "runs/j/u/samples/00003"
    assert sorted(f.name for f in (run.workspace / book.newest).iterdir()) == ["0.jpg", "1.jpg"]
    _draw(book, 4, count=0)
    assert book.newest is None


def test_old_pictures_go_and_those_of_epochs_that_never_came(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "EVENLY", 2)
    book = PictureBook(run)
    ious = [0.1, 0.2, 0.9, 0.3, 0.4, 0.5, 0.6]
    _draw(book, 9)
    for epoch in range(1, 8):
        _draw(book, epoch)
        book.thin(history(*ious[:epoch]))
    left = {int(folder.name) for folder in (run.base / "samples").iterdir()}
    assert left == {1, 3, 4, 7}


def test_a_full_disk_costs_the_pictures_only(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    book = PictureBook(run)
    for epoch in (1, 2):
        _draw(book, epoch)
        assert book.newest is None
    assert caplog.text.count("can't be written") == 1
    assert "the pictures of epoch 1 can't be written" in caplog.text
    assert not list((run.base / "samples").iterdir())
