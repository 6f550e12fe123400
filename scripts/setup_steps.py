"""Set everything up: the locked dependencies into .venv, and beside that the Kubernetes binary.

Both are kept; where nothing changed this takes a moment and says nothing. Only the standard
library. Interrupted at any point and started again, it goes on or begins anew.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TextIO

from setup_board import Board, duration
from setup_venv import (
    VENV_BYTES,
    PipLog,
    SetupError,
    explain_failure,
    install_commands,
    make_venv,
    pip_environment,
    read_stamp,
    wanted_stamp,
)

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STATE = ROOT / ".kubeseg"
LOGS = STATE / "logs"
SCRATCH = STATE / "tmp"
STAMP = VENV / "kubeseg-stamp.json"
BUILD = ROOT / "deploy" / "local" / "kubeseg_local" / "build.py"
BUILD_TITLE = "building Kubernetes "


@dataclass
class Step:
    """One long step: processes one after the other, all writing to one log."""

    name: str
    what: str
    log: Path
    commands: list[list[str]]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    began: float = 0.0

    def start(self, held: TextIO) -> None:
        """Start the first command; `held` is a lock that its process keeps while it lives."""
        self.began = time.monotonic()
        self.log.write_bytes(b"")
        self._next(held)

    def _next(self, held: TextIO) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.commands.pop(0),
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[held.fileno()],
                # Ctrl-C reaches it through us alone, so that it is waited for.
                start_new_session=True,
            )

    def poll(self, held: TextIO) -> int | None:
        """Exit status of the whole step, None while it runs."""
        assert self.process is not None
        status = self.process.poll()
        if status == 0 and self.commands:
            self._next(held)
            return None
        return status

    def end(self) -> None:
        """End its processes and wait for them."""
        if self.process is None or self.process.poll() is not None:
            return
        for number, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
            with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                os.killpg(self.process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
                return


def tail(log: Path, lines: int) -> list[str]:
    """The last lines of a log that say anything."""
    text = log.read_text(errors="replace") if log.exists() else ""
    said = [line.rstrip() for line in text.splitlines() if line.strip()]
    return said[-lines:]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[TextIO]:
    """Hold the lock `path`; it stays held while a process lives that inherited it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another set-up of this checkout is under way: waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def check_disk(folder: Path, need: int) -> None:
    """Raise SetupError where fewer than `need` bytes are free."""
    free = shutil.disk_usage(folder).free
    if free < need:
        raise SetupError(
            f"{folder}: {free / 2**30:.1f} GiB free, and the dependencies (PyTorch) need "
            f"{need / 2**30:.0f} GiB there. Make room, or clone to a larger disk."
        )


def python_step(board: Board) -> Step:
    """What installs the dependencies; .venv is there when this returns."""
    LOGS.mkdir(parents=True, exist_ok=True)
    check_disk(ROOT, VENV_BYTES)
    complete = read_stamp(STAMP) is not None
    if not complete:
        half_made = ", since the one that is there is not complete" if VENV.exists() else ""
        board.show("python", f"making .venv{half_made}")
    make_venv(VENV, keep=complete)
    # Until it is written again, .venv counts as half made.
    STAMP.unlink(missing_ok=True)
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir(parents=True)
    return Step(
        "python",
        "locked dependencies into .venv",
        LOGS / "python.log",
        install_commands(VENV, ROOT),
        pip_environment(os.environ, SCRATCH),
    )


def cluster_step() -> Step:
    """What builds the Kubernetes binary, or finds it."""
    LOGS.mkdir(parents=True, exist_ok=True)
    # pip's Python where it is there: build.py may have to install Go.
    python = VENV / "bin" / "python"
    return Step(
        "cluster",
        "Kubernetes, once, then cached",
        LOGS / "kubernetes.log",
        [[str(python if python.exists() else sys.executable), str(BUILD)]],
        dict(os.environ),
    )


def run(steps: list[Step], board: Board, held: TextIO) -> bool:
    """Run the steps side by side and show how far they are; whether all went well."""
    pip_log = PipLog(ROOT / "requirements.lock", VENV)
    running, well = list(steps), True
    try:
        for step in running:
            step.start(held)
        while running:
            for step in list(running):
                status = step.poll(held)
                spent = time.monotonic() - step.began
                if status is None:
                    if step.name == "python":
                        state = pip_log.state(step.log, spent)
                    else:
                        said = tail(step.log, 1)
                        state = said[0].removeprefix(BUILD_TITLE) if said else ""
                    if spent > 1:
                        board.show(step.name, f"{step.what}   {state}")
                    continue
                running.remove(step)
                if status == 0 and step.name == "python":
                    STAMP.write_text(wanted_stamp(ROOT, VENV))
                    shutil.rmtree(SCRATCH)
                if status or spent > 2:
                    board.finish(step.name, f"{step.what}   {duration(spent)}", ok=status == 0)
                if status:
                    well = False
                    report(step, others=bool(running))
            time.sleep(0.2)
    finally:
        for step in running:
            step.end()
        board.close()
    return well


def report(step: Step, *, others: bool) -> None:
    """Say why a step failed: its log's last lines and where the log lies."""
    lines = [line for line in tail(step.log, 40) if not line.startswith("Ignoring ")][-8:]
    print("\n".join(f"    {line[:200]}" for line in lines))
    if step.name == "python":
        print(f"  {explain_failure(step.log.read_text(errors='replace'))}")
    print(f"  The whole log: {step.log}")
    if others:
        print("  What else is under way goes on, so that the next run is short; Ctrl-C ends it.")
    sys.stdout.flush()


def interrupt(_signal: int, _frame: object) -> NoReturn:
    """SIGTERM ends the set-up as Ctrl-C does."""
    raise KeyboardInterrupt


def main() -> int:
    """Set up what is missing; exit status."""
    parser = argparse.ArgumentParser(description="Set up .venv and the Kubernetes binary.")
    parser.add_argument("--python-only", action="store_true", help="not the Kubernetes binary")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupt)
    board = Board()
    try:
        with locked(STATE / "setup.lock") as held:
            steps = []
            if read_stamp(STAMP) != wanted_stamp(ROOT, VENV):
                steps.append(python_step(board))
            if not arguments.python_only:
                steps.append(cluster_step())
            return 0 if run(steps, board, held) else 1
    except SetupError as error:
        board.close()
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up: interrupted. The same command again goes on.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
