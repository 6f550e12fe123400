"""How the processes of a pod end together: with small programs in the place of trainers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeseg_trainer import cli, launcher
from kubeseg_trainer.placement import Pod

POD = Pod(0, 1, 2, "127.0.0.1", 0)
#: Writes its message, as a trainer does, and ends with a code of its own.
MESSAGE = """
import json, os, signal, sys, time
rank = int(os.environ["RANK"])
def leave(code, text):
    message = {"exitCode": code, "reason": "r", "message": text, "epoch": 3 - rank}
    open(sys.argv[sys.argv.index("--termination-log") + 1], "w").write(json.dumps(message))
    sys.exit(code)
"""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    file = tmp_path / "termination-log"
    file.touch()
    yield file
    for number, handler in before.items():
        signal.signal(number, handler)


def _launch(program: str, log: Path) -> tuple[int, dict[str, Any]]:
    code = launcher.launch(POD, [sys.executable, "-c", MESSAGE + program], log)
    return code, json.loads(log.read_text())


def test_the_error_of_one_is_told_with_what_the_first_knows(log: Path) -> None:
    code, message = _launch("leave(4 if rank else 75, f'I am {rank}')", log)
    assert code == 4
    assert message["exitCode"] == 4
    assert message["reason"] == "NonFiniteLoss"
    assert message["message"] == "I am 1"
    assert message["epoch"] == 3


@pytest.mark.parametrize(
    ("number", "code", "text"),
    [
        (signal.SIGKILL, 75, "rank 0 was ended by SIGKILL"),
        (signal.SIGSEGV, 1, "rank 0 was ended by SIGSEGV"),
    ],
)
def test_one_that_is_killed_can_say_nothing(
    log: Path, number: signal.Signals, code: int, text: str
) -> None:
    program = f"leave(75, 'rank 0 is gone') if rank else os.kill(os.getpid(), {number})"
    found, message = _launch(program, log)
    assert (found, message["exitCode"]) == (code, code)
    assert message["message"] == text


def test_who_does_not_end_by_itself_is_ended(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "LINGER", 0.1)
    monkeypatch.setattr(launcher, "ASKED", 0.1)
    program = "signal.signal(15, signal.SIG_IGN); leave(3, 'broken') if rank else time.sleep(600)"
    assert _launch(program, log)[0] == 3


def test_no_message_at_all(log: Path) -> None:
    code, message = _launch("sys.exit(9)", log)
    assert code == 1
    assert message["message"] == "rank 0 was ended with code 9"


def test_a_process_ends_with_its_launcher() -> None:
    child = (
        "import time; from kubeseg_trainer.environment import follow_launcher; follow_launcher();"
        "print('here', flush=True); time.sleep(600)"
    )
    parent = (
        "import os, subprocess, sys, time\n"
        "env = {**os.environ, 'KUBESEG_LAUNCHER': str(os.getpid())}\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], env=env)\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert process.stdout.readline() == b"here\n"
        process.kill()
    deadline = time.monotonic() + 60
    while _alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_environment_that_contradicts_itself(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBESEG_WORKERS", "2")
    monkeypatch.delenv("JOB_COMPLETION_INDEX", raising=False)
    train = ["train", "--config", "c", "--workspace", str(tmp_path), "--termination-log", str(log)]
    umask = os.umask(0)
    try:
        assert cli.main(train) == 2
    finally:
        os.umask(umask)
    text = json.loads(log.read_text())["message"]
    assert "JOB_COMPLETION_INDEX must say which of them this is" in text


def test_no_processes_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["train", "--config", "c", "--workspace", "w", "--processes", "0"])
    assert "must be a whole number from 1 on, not '0'" in capsys.readouterr().err
