"""No room at any point: the last good checkpoint stays, and the next start ends the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kubeseg_trainer.engine.checkpoint import checkpoints_of, read_checkpoint
from kubeseg_trainer.files import TEMPORARY
from kubeseg_trainer.run_directory import attempt_folders
from kubeseg_types import workspace
from kubeseg_types.exit_codes import ExitCode
from tests.support.datasets import make_dataset
from tests.support.full_disk import full_disk
from tests.support.trainings import Place, config_of

#: Without pictures, whose want is a warning and no more.
CONFIG: dict[str, Any] = {
    "training": {"epochs": 2, "imageSize": 32},
    "export": {"onnx": False, "samples": 0},
}
EVER = 10**9


def _outcome(place: Place) -> list[Any]:
    return [(e.train, e.validation, e.weights and e.weights.sha256) for e in place.history()]


def _place(folder: Path) -> Place:
    place = Place(folder)
    make_dataset(place.workspace, count=9)
    return place


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], int]:
    """What comes out with room enough, and how many operations that takes."""
    place = _place(tmp_path_factory.mktemp("whole"))
    with full_disk(place.workspace / "runs") as disk:
        assert place.train(config_of(**CONFIG)) == 0
    return _outcome(place), disk.count


def _fill(folder: Path, whole: tuple[list[Any], int], first: int, last: int, part: str = "") -> int:
    """Operations `first` to `last` fail; then there is room again. The first exit code."""
    place = _place(folder)
    with full_disk(place.workspace / "runs", first, last, part):
        code = place.train(config_of(**CONFIG))
    where = f"operations {first} to {last}"
    assert code in (0, ExitCode.STORAGE), where
    if code:
        assert place.message()["reason"] == "StorageError"
        assert "No space left on device" in place.message()["message"]
    # Whatever bears a checkpoint's name is whole.
    kept = checkpoints_of(attempt_folders(place.run_folder()))
    for path in kept:
        read_checkpoint(path)
    told = place.message().get("checkpoint")
    assert told is None or (told["epoch"], told["step"]) <= max(
        (tuple(map(int, path.name.split("-"))) for path in kept), default=(0, 0)
    )
    assert place.train(config_of(attempt=2, **CONFIG)) == 0, where
    assert _outcome(place) == whole[0], where
    assert not list(place.run_folder().rglob(f"{TEMPORARY}*")), where
    return code


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubeseg_trainer.engine.writer.RETRY", 0.01)


@pytest.mark.slow
def test_a_disk_that_is_full_from_some_point_on(
    tmp_path: Path, whole: tuple[list[Any], int]
) -> None:
    count = whole[1]
    for first in (8, count // 3, 2 * count // 3):
        assert _fill(tmp_path / str(first), whole, first, EVER) == ExitCode.STORAGE


def test_room_made_in_time_costs_nothing(
    tmp_path: Path, whole: tuple[list[Any], int], caplog: pytest.LogCaptureFixture
) -> None:
    """The second operation on the weights of the first epoch, written in the background."""
    assert _fill(tmp_path, whole, 2, 2, f"/{workspace.EPOCHS}/") == 0
    assert "The training goes on until the next write is due" in caplog.text


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("ever", [True, False])
def test_full_at_every_operation(tmp_path: Path, whole: tuple[list[Any], int], ever: bool) -> None:
    codes = []
    for first in range(1, whole[1] + 1):
        codes.append(_fill(tmp_path / str(first), whole, first, EVER if ever else first))
        shutil.rmtree(tmp_path / str(first))
    print(f"{len(codes)} operations, for good: {ever}; {codes.count(0)} ended with 0, others 79")


_ON_A_SMALL_DISK = """
set -e
mount -t tmpfs -o size=$SIZE none "$SMALL"
mkdir "$SMALL/datasets"
cp -r "$DATA" "$SMALL/datasets/discs"
train() {
  "$PYTHON" -m kubeseg_trainer.cli train --config "$CONFIG" --workspace "$SMALL" --no-server
}
train && exit 90 || test $? = 79
mount -o remount,size=64M "$SMALL"
train
cp -r "$SMALL/runs" "$RESULT"
"""


@pytest.mark.slow
def test_a_real_disk_that_is_too_small_until_someone_enlarges_it(
    tmp_path: Path, whole: tuple[list[Any], int]
) -> None:
    """A tmpfs of 11 MB: room for two epochs' weights (1.7 MB each) and one checkpoint (5 MB)."""
    if subprocess.run(["unshare", "-Urm", "true"], check=False).returncode:
        pytest.skip("no user namespaces here")
    place = _place(tmp_path)
    place.configure(config_of(**CONFIG))
    small = tmp_path / "small"
    small.mkdir()
    environment = {
        "SIZE": "11M",
        "SMALL": str(small),
        "DATA": str(place.workspace / "datasets" / "discs"),
        "PYTHON": sys.executable,
        "CONFIG": str(place.config_file),
        "RESULT": str(place.workspace),
    }
    done = subprocess.run(
        ["unshare", "-Urm", "bash", "-c", _ON_A_SMALL_DISK],
        env={**os.environ, **environment},
        cwd=Path(__file__).resolve().parents[2],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No space left on device" in done.stdout
    assert "from epoch 1, step 4" in done.stdout
    assert _outcome(place) == whole[0]
    assert json.loads((place.run_folder() / "run.json").read_text())["state"] == "Succeeded"
