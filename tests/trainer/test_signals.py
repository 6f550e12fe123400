"""Ctrl-C and SIGTERM: what is said at once, what last, and which outcome counts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kubeseg_types.exit_codes import ExitCode
from tests.support.trainings import Place, config_of, in_training, terminate

#: The process gets SIGINT when all is done, and Python has given its own handlers back.
_LATE = """
import os, signal, sys
class Late:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGINT):
        kill(pid, number)
from kubeseg_trainer.cli import main
sys.modules["late"] = Late()
sys.exit(main(sys.argv[1:]))
"""


def _run(place: Place, command: str, *more: str) -> subprocess.CompletedProcess[str]:
    options = ["--config", str(place.config_file), "--workspace", str(place.workspace)]
    options += ["--termination-log", str(place.termination_log), *more]
    return subprocess.run(
        [sys.executable, "-c", _LATE, command, *options],
        cwd=Path(__file__).resolve().parents[2],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        timeout=120,
        check=False,
        capture_output=True,
        text=True,
    )


def test_a_signal_after_the_outcome_does_not_change_it(place: Place) -> None:
    place.configure(config_of(training={"epochs": 1}))
    done = _run(place, "train", "--no-server", "--processes", "1")
    assert done.returncode == ExitCode.SUCCESS, done.stdout + done.stderr
    place.configure(config_of(dataset={"name": "nowhere"}))
    done = _run(place, "check")
    assert done.returncode == ExitCode.DATASET, done.stdout + done.stderr


def test_it_says_that_it_stops_and_where_it_goes_on(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    with in_training(7, terminate), caplog.at_level("INFO"):
        assert place.train(config_of(training={"epochs": 5})) == ExitCode.INTERRUPTED
    said = [record.getMessage() for record in caplog.records]
    stopping = next(i for i, text in enumerate(said) if text.startswith("stopping: "))
    assert stopping < len(said) - 1
    point = place.message()["checkpoint"]
    assert f"goes on from epoch {point['epoch']}, step {point['step']}" in said[-1]
    assert (
        f"goes on from epoch {point['epoch']}, step {point['step']}" in place.message()["message"]
    )
    caplog.clear()
    config = config_of(attempt=2, training={"epochs": 2})
    with caplog.at_level("INFO"):
        assert place.train(config) == 0
    assert f"from epoch {point['epoch']}, step {point['step']}" in caplog.text


def test_a_second_ctrl_c_is_an_interruption_too(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with in_training(2, twice):
        assert place.train(config_of()) == ExitCode.INTERRUPTED
    assert place.message()["message"].startswith("broken off by a second Ctrl-C")
    assert "goes on where this start began" in place.message()["message"]
    assert "Traceback" not in caplog.text
