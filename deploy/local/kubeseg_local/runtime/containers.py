"""Start, stop and look after containers' processes."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from kubeseg_local.runtime import launch
from kubeseg_local.runtime.faults import CallError, TimedOutError
from kubeseg_local.runtime.hosts import HostsFiles
from kubeseg_local.runtime.images import Image
from kubeseg_local.runtime.logs import LogPump
from kubeseg_local.runtime.spec import Host, specification
from kubeseg_local.runtime.store import CREATED, EXITED, RUNNING, Container, Sandbox, Store

LAUNCHER = [sys.executable, "-I", "-S", str(Path(launch.__file__))]
LOG_DRAIN_S = 5.0
# SIGKILL to the first process of a PID namespace ends all of it; that takes moments.
KILL_S = 30.0
KILLED = 128 + signal.SIGKILL
START_FAILED = 128
log = logging.getLogger(__name__)


def exit_code(status: int) -> int:
    """A container's exit code for a wait status: 128 + the signal's number when one ended it."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def inner_processes() -> list[int]:
    """Pids of all processes in PID namespaces below ours: those of containers, recorded or not."""
    ours = Path("/proc/self/ns/pid").readlink()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # One that ends meanwhile, or has just ended and isn't reaped, needs no killing.
            with contextlib.suppress(OSError):
                if (entry / "ns" / "pid").readlink() != ours:
                    found.append(int(entry.name))
    return found


class Containers:
    """The processes behind a store's containers."""

    def __init__(self, store: Store, host: Host, hosts: HostsFiles) -> None:
        self._store = store
        self._host = host
        self._hosts = hosts

    def recover(self) -> None:
        """End what an earlier runtime left running: its output and exit codes are lost.

        The kubelet then starts it again, or not, as the pod's restart policy says.
        """
        while left := inner_processes():
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        for container in list(self._store.containers.values()):
            if container.state != RUNNING:
                container.ended.set()
                continue
            container.message = "ended with the container runtime, which was restarted"
            self._finish(container, KILLED)

    def start(self, container: Container, image: Image) -> None:
        """Run the container's program. Raises CallError when it can't be run."""
        with self._store.lock:
            if container.state != CREATED:
                raise CallError(f"container {container.id} was started before")
        sandbox = self._store.sandbox(container.sandbox)
        folder = self._store.container_dir(container)
        (folder / "rootfs").mkdir(exist_ok=True)
        hosts_file = folder / "hosts"
        self._hosts.add(sandbox, container, hosts_file)
        try:
            spec = specification(
                sandbox.config,
                container.config,
                image,
                self._host,
                rootfs=folder / "rootfs",
                hosts_file=hosts_file,
            )
            (folder / "spec.json").write_text(json.dumps(spec))
            container.pid = self._launch(sandbox, container, spec)
        except CallError as error:
            container.message = str(error)
            container.reason = "StartError"
            self._finish(container, START_FAILED)
            raise

    def _launch(self, sandbox: Sandbox, container: Container, spec: dict[str, Any]) -> int:
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        path = Path(sandbox.config.log_directory) / container.config.log_path
        container.log = LogPump(path, out_read, err_read)
        try:
            pid, error = _run_launcher("start", spec, out_write, err_write)
        finally:
            os.close(out_write)
            os.close(err_write)
        if pid == 0:
            raise CallError(error or "the launcher ended without a word")
        if error:
            os.waitpid(pid, 0)
            raise CallError(error)
        with self._store.lock:
            container.pid, container.state = pid, RUNNING
            container.started_at = time.time_ns()
            self._store.save_container(container)
        threading.Thread(target=self._await_end, args=(container,), daemon=True).start()
        return pid

    def _await_end(self, container: Container) -> None:
        _, status = os.waitpid(container.pid, 0)
        assert container.log is not None
        container.log.join(LOG_DRAIN_S)
        self._finish(container, exit_code(status))

    def _finish(self, container: Container, code: int) -> None:
        with self._store.lock:
            container.state = EXITED
            container.exit_code = code
            container.finished_at = time.time_ns()
            container.reason = container.reason or ("Error" if code else "Completed")
            self._store.save_container(container)
        self._hosts.drop(container)
        container.ended.set()

    def stop(self, container: Container, grace_s: float) -> None:
        """SIGTERM, and after `grace_s` SIGKILL; returns when all its processes are gone."""
        if container.state == CREATED:
            self._finish(container, KILLED)
        if container.state == EXITED:
            return
        if grace_s > 0:
            _signal(container, signal.SIGTERM)
            if container.ended.wait(grace_s):
                return
        _signal(container, signal.SIGKILL)
        if not container.ended.wait(KILL_S):
            raise TimedOutError(
                f"process {container.pid} doesn't end, {KILL_S:.0f} s after SIGKILL"
            )

    def kill(self, container: Container, reason: str, message: str) -> None:
        """SIGKILL, for a reason that the kubelet is to tell. It may have ended by itself."""
        with self._store.lock:
            if container.state != RUNNING or container.reason:
                return
            container.reason, container.message = reason, message
        _signal(container, signal.SIGKILL)

    def execute(
        self, container: Container, argv: list[str], limit_s: float
    ) -> tuple[bytes, bytes, int]:
        """Run one more program in the container: (stdout, stderr, exit code).

        `limit_s` 0 is no limit. Raises CallError when it can't be run, TimedOutError when it lasts.
        """
        if container.state != RUNNING:
            raise CallError(f"container {container.id} isn't running")
        spec = json.loads((self._store.container_dir(container) / "spec.json").read_text())
        spec |= {"argv": argv, "target": container.pid}
        read, write = os.pipe()
        with subprocess.Popen(
            [*LAUNCHER, "join", str(write)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[write],
            start_new_session=True,
        ) as process:
            os.close(write)
            try:
                out, err = process.communicate(json.dumps(spec).encode(), limit_s or None)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise TimedOutError(f"{argv[0]!r} did not end within {limit_s:g} s") from None
            finally:
                with os.fdopen(read) as report:
                    _, error = parse_report(report.read())
        if error:
            raise CallError(error)
        return out, err, process.returncode


def _signal(container: Container, number: signal.Signals) -> None:
    # Not reaped before `_await_end` has seen it, so the number is still this process.
    try:
        os.kill(container.pid, number)
    except ProcessLookupError:
        log.info("container %s has ended by itself", container.id)


def _run_launcher(mode: str, spec: dict[str, Any], out: int, err: int) -> tuple[int, str]:
    """(pid, error) as the launcher reports them: pid 0 when nothing was started."""
    read, write = os.pipe()
    with subprocess.Popen(
        [*LAUNCHER, mode, str(write)],
        stdin=subprocess.PIPE,
        stdout=out,
        stderr=err,
        pass_fds=[write],
    ) as process:
        os.close(write)
        assert process.stdin is not None
        process.stdin.write(json.dumps(spec).encode())
        process.stdin.close()
        with os.fdopen(read) as report:
            return parse_report(report.read())


def parse_report(text: str) -> tuple[int, str]:
    """(pid, error) in what `launch.py` has reported."""
    pid, error = 0, ""
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "pid":
            pid = int(rest)
        elif word == "error":
            error = rest
    return pid, error
