"""Start the components, notice their ends, start them again."""

from __future__ import annotations

import asyncio
import collections
import datetime as dt
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from kubeseg_local import restarts
from kubeseg_local.components import Component
from kubeseg_local.layout import Layout
from kubeseg_local.state import ClusterState, ComponentState, Crash

LAST_LINES = 4
CRASHES_KEPT = 20
log = logging.getLogger(__name__)


def exit_text(status: int) -> str:
    """A wait status in words: "exit code 1", "signal 9 (SIGKILL)"."""
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.Signals(-code).name})"


def last_lines(path: Path, count: int = LAST_LINES) -> list[str]:
    """The last lines of a log, each cut to 300 characters."""
    try:
        with path.open(errors="replace") as file:
            return [line.rstrip()[:300] for line in collections.deque(file, count)]
    except FileNotFoundError:
        return []


class Runner:
    """The components' parent. As the first process of its PID namespace it reaps orphans too."""

    def __init__(self, layout: Layout, state: ClusterState, changed: Callable[[], None]) -> None:
        self._layout = layout
        self._state = state
        self._changed = changed
        self._running: dict[int, Component] = {}
        self._crashes: dict[str, list[float]] = {}
        self._restarts: set[asyncio.Task[None]] = set()

    def attach(self) -> None:
        """Notice ends from now on; the event loop must run."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)

    def start(self, component: Component) -> None:
        """Start it; its output goes to its log."""
        with self._layout.component_log(component.name).open("ab") as output:
            # Reaped by hand: see _reap. A session of its own keeps a terminal's signals away.
            process = subprocess.Popen(
                component.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process.returncode = 0  # tells subprocess that nobody need wait for it
        self._running[process.pid] = component
        state = self._state.components.setdefault(component.name, ComponentState())
        state.running, state.pid = True, process.pid
        self._changed()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            component = self._running.pop(pid, None)
            if component is not None:
                self._ended(component, status)

    def _ended(self, component: Component, status: int) -> None:
        now = time.monotonic()
        state = self._state.components[component.name]
        state.running = state.healthy = False
        crashes = self._crashes.setdefault(component.name, [])
        crashes.append(now)
        decision = restarts.decide(crashes, now)
        if isinstance(decision, restarts.Restart):
            outcome = f"started again after {decision.delay_s:g} s"
            state.restarts += 1
            task = asyncio.get_running_loop().create_task(self._later(component, decision.delay_s))
            self._restarts.add(task)
            task.add_done_callback(self._restarts.discard)
        else:
            outcome = f"{decision.why}: left down"
            self._state.phase = "Failed"
            self._state.doing = f"{component.name} {decision.why}"
        crash = Crash(
            component=component.name,
            at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            exit=exit_text(status),
            last_lines=last_lines(self._layout.component_log(component.name)),
            outcome=outcome,
        )
        log.warning("%s ended with %s: %s", crash.component, crash.exit, outcome)
        self._state.crashes = [*self._state.crashes, crash][-CRASHES_KEPT:]
        self._changed()

    async def _later(self, component: Component, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        self.start(component)
