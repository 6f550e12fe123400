"""Several processes as a pod has them: `kubeseg-trainer train --processes`, and several pods."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kubeseg_types.exit_codes import ExitCode
from tests.support.line_task import LineKind
from tests.support.ranks import free_port
from tests.support.trainings import Place, config_of

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 120.0
FOREVER = {"epochs": 100_000}


def _until(met: Callable[[], Any], process: subprocess.Popen[bytes]) -> Any:
    deadline = time.monotonic() + DEADLINE
    while not (result := met()):
        assert process.poll() is None, "ended before"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return result


@contextmanager
def _started(
    place: Place, *arguments: str, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.support.line_program", "train"]
    files = ["--config", str(place.config_file), "--workspace", str(place.workspace)]
    log = ["--termination-log", str(place.termination_log)]
    process = subprocess.Popen(
        [*command, *files, *log, *arguments], cwd=ROOT, env={**os.environ, **(env or {})}
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _epoch_done(place: Place) -> bool:
    files = place.run_folder().glob("attempts/*/checkpoints/*/manifest.json")
    return any(files)


def _listening(pid: int) -> set[str]:
    """Addresses (as /proc writes them) of the process's listening sockets."""
    inodes = {
        str(fd.readlink()).removeprefix("socket:[").removesuffix("]")
        for fd in Path(f"/proc/{pid}/fd").iterdir()
        if fd.is_symlink()
    }
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(fields[1].split(":")[0])
    return found


def test_sigterm_is_passed_on_and_leaves_one_message(place: Place) -> None:
    place.configure(config_of(training=FOREVER))
    with _started(place, "--processes", "2", "--no-server") as process:
        _until(lambda: _epoch_done(place), process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == ExitCode.INTERRUPTED
    message = place.message()
    assert message["reason"] == "Interrupted"
    assert message["checkpoint"]["epoch"] >= 1
    assert place.record().state == "Interrupted"
    assert place.record().hardware["processes"] == 2
    # With one process from there.
    epochs = message["epoch"] + 1
    config = config_of(attempt=2, training={"epochs": epochs})
    assert place.train(config, kind=LineKind()) == 0
    assert [entry.train.samples for entry in place.history()] == [11] * epochs


def test_pods_listen_on_their_own_address_and_the_first_one_tells(place: Place) -> None:
    port, served = free_port(), free_port()
    place.configure(config_of(training=FOREVER))

    def pod(index: int) -> dict[str, str]:
        return {
            "JOB_COMPLETION_INDEX": str(index),
            "KUBESEG_WORKERS": "2",
            "KUBESEG_COORDINATOR": f"127.0.0.2:{port}",
            "POD_IP": f"127.0.0.{2 + index}",
        }

    def ask(index: int, path: str) -> bytes:
        url = f"http://127.0.0.{2 + index}:{served}{path}"
        with urllib.request.urlopen(url, timeout=10) as reply:
            body: bytes = reply.read()
            return body

    options = ("--port", str(served))
    with (
        _started(place, *options, env=pod(1)) as second,
        _started(place, *options, env=pod(0)) as first,
    ):
        _until(lambda: _epoch_done(place), first)
        assert json.loads(ask(0, "/progress"))["workers"] == 2
        assert b"kubeseg_epoch" in ask(0, "/metrics")
        assert ask(1, "/healthz") == b"ok\n"
        for path in ("/progress", "/metrics"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                ask(1, path)
        assert _listening(first.pid) == {"0200007F"}
        assert _listening(second.pid) == {"0300007F"}
        second.send_signal(signal.SIGTERM)
        assert first.wait(DEADLINE) == ExitCode.INTERRUPTED
        assert second.wait(DEADLINE) == ExitCode.INTERRUPTED
    message = place.record().message
    assert message is not None
    assert message.startswith("interrupted together with rank 1; the next attempt goes on from ")
