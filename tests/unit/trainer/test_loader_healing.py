"""Loader processes that end: too little shared memory, too little memory, something else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kubeseg_trainer.engine.loading import Loader, worker_trouble
from tests.support.cluster import wait_for
from tests.support.large_samples import COUNT, KEYS, LargeSamples, seen

ROOT = Path(__file__).resolve().parents[3]
IN_A_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


@pytest.mark.parametrize(
    ("text", "codes", "expected"),
    [
        ("DataLoader worker (pid(s) 7) exited unexpectedly", [-signal.SIGBUS], "shared memory"),
        (
            "unable to allocate shared memory(shm) for file </torch_1>: No",
            [],
            "shared memory",
        ),
        ("unable to mmap 80 bytes from file </torch_1>: Cannot allocate", [0], "shared memory"),
        ("DataLoader worker (pid(s) 7) exited unexpectedly", [-signal.SIGKILL], "memory"),
        # A signal to the whole process group is no want of anything.
        ("DataLoader worker (pid(s) 7) exited unexpectedly", [-signal.SIGTERM], None),
        ("Caught RuntimeError in DataLoader worker process 0: bad image", [], None),
    ],
)
def test_what_loader_processes_lacked(text: str, codes: list[int], expected: str | None) -> None:
    assert worker_trouble(text, codes) == expected


def test_a_killed_loader_process_costs_no_batch() -> None:
    notes: list[str] = []
    loader = Loader((LargeSamples(),), workers=1, pin=False, note=notes.append)
    found: list[int] = []
    for number, batch in enumerate(loader.batches(0, KEYS)):
        found += seen(batch)
        if number == 1:
            iterator: Any = loader._loader._iterator
            os.kill(iterator._workers[0].pid, signal.SIGKILL)
    assert found == list(range(COUNT))
    assert loader.workers == 0
    assert "for want of memory" in notes[0]


def test_too_little_shared_memory_costs_no_batch() -> None:
    """A real /dev/shm of one megabyte, in a mount namespace."""
    if subprocess.run([*IN_A_NAMESPACE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("user namespaces are forbidden here, and /dev/shm can't be made small")
    command = (
        f"mount -t tmpfs -o size=1m tmpfs /dev/shm && "
        f"exec {sys.executable} -m tests.support.large_samples"
    )
    done = subprocess.run(
        [*IN_A_NAMESPACE, "bash", "-c", command],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "shared memory (1 MiB) is too small" in done.stdout
    assert str(list(range(COUNT))) in done.stdout
    assert done.stdout.splitlines()[-1] == "pipes 2"


BUSY = """
import multiprocessing.forkserver, time
from kubeseg_trainer.engine.loading import Loader
from tests.support.cluster import wait_for
from tests.support.large_samples import KEYS, LargeSamples
loader = Loader((LargeSamples(),), workers=2, pin=False, note=print)
batches = loader.batches(0, KEYS)
next(batches)
server = multiprocessing.forkserver._forkserver._forkserver_pid
print(server, *(each.pid for each in loader._loader._iterator._workers), flush=True)
time.sleep(600)
"""


def _runs(process: str) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_no_process_outlives_a_killed_trainer() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as trainer:
        assert trainer.stdout is not None
        others = trainer.stdout.readline().split()
        assert len(others) == 3
        trainer.kill()
        try:
            wait_for("their end", lambda: not any(map(_runs, others)), 20)
        finally:
            for process in filter(_runs, others):
                os.kill(int(process), signal.SIGKILL)
