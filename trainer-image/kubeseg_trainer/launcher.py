"""Several processes in one pod: started, told of signals, and ended together."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from kubeseg_trainer.ending import write_message
from kubeseg_trainer.engine.signals import ignore_signals
from kubeseg_trainer.environment import ENV_LAUNCHER
from kubeseg_trainer.placement import Pod
from kubeseg_types.exit_codes import TABLE, ExitCode
from kubeseg_types.trainer import TerminationMessage

log = logging.getLogger(__name__)

#: Seconds that the others have to end by themselves when one has (rank 0 may be writing a
#: checkpoint), and after being asked to.
LINGER = 60.0
ASKED = 10.0
_POLL = 0.1
#: Of this container's own cgroup.
MEMORY_EVENTS = Path("/sys/fs/cgroup/memory.events")
#: Of several endings the first of these tells most: what would happen again, what needs another
#: size, what is counted, what is nobody's fault.
_TELLING = (
    ExitCode.CONFIGURATION,
    ExitCode.DATASET,
    ExitCode.NON_FINITE,
    ExitCode.OUT_OF_MEMORY,
    ExitCode.STORAGE,
    ExitCode.STALLED,
    ExitCode.ERROR,
    ExitCode.SUPERSEDED,
    ExitCode.INTERRUPTED,
    ExitCode.SUCCESS,
)


def code_of(status: int, *, out_of_memory: bool) -> ExitCode:
    """What a child's status (negative: ended by a signal) means.

    Someone's SIGKILL or SIGTERM is an interruption, unless the kernel has killed for memory here.
    Any other signal (a crash) is an error, or it would be tried again for ever.
    """
    if status == -signal.SIGKILL:
        return ExitCode.OUT_OF_MEMORY if out_of_memory else ExitCode.INTERRUPTED
    if status == -signal.SIGTERM:
        return ExitCode.INTERRUPTED
    try:
        return ExitCode(status)
    except ValueError:
        return ExitCode.ERROR


def most_telling(codes: Sequence[ExitCode]) -> int:
    """Which of these endings the whole has: its index."""
    return min(range(len(codes)), key=lambda index: (_TELLING.index(codes[index]), index))


def kills_for_memory() -> int:
    """How many processes of this container the kernel has killed for memory."""
    try:
        events = MEMORY_EVENTS.read_text(encoding="utf-8")
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in events.splitlines() if line.startswith("oom_kill "))


def _free_port(address: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


class _Children:
    def __init__(self, pod: Pod, command: Sequence[str], folder: Path) -> None:
        port = pod.port or _free_port(pod.host)
        self.messages = [folder / str(number) for number in range(pod.processes)]
        self.all: list[subprocess.Popen[bytes]] = []
        for number, message in enumerate(self.messages):
            message.touch()
            environment = os.environ | pod.environment(number, port)
            environment[ENV_LAUNCHER] = str(os.getpid())
            self.all.append(
                subprocess.Popen(
                    [*command, "--termination-log", str(message)],
                    env=environment,
                    # Ctrl-C reaches us alone: passed on, it would come twice otherwise.
                    start_new_session=True,
                )
            )

    def send(self, number: int) -> None:
        """Signal all that are left."""
        for child in self.all:
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    child.send_signal(number)

    def wait(self) -> list[int]:
        """Until all have ended; when one has failed the others get LINGER seconds."""
        failed: float | None = None
        steps = [(LINGER, signal.SIGTERM), (LINGER + ASKED, signal.SIGKILL)]
        while None in (statuses := [child.poll() for child in self.all]):
            if failed is None and any(statuses):
                failed = time.monotonic()
            if failed is not None and steps and time.monotonic() - failed > steps[0][0]:
                _, number = steps.pop(0)
                log.warning("processes that should have ended get %s", number.name)
                self.send(number)
            time.sleep(_POLL)
        return [child.returncode for child in self.all]


def _message(file: Path) -> TerminationMessage | None:
    data = file.read_bytes()
    return TerminationMessage.model_validate_json(data) if data else None


def launch(pod: Pod, command: Sequence[str], termination_log: Path) -> int:
    """Run the processes of `pod`, each with this command; returns the most telling exit code.

    SIGTERM and SIGINT are passed on. One termination message is left: what the first process knows
    of the run, with the ending of the whole.
    """
    kills = kills_for_memory()
    with tempfile.TemporaryDirectory(prefix="kubeseg-") as folder:
        children = _Children(pod, command, Path(folder))

        def forward(number: int, _: FrameType | None) -> None:
            children.send(number)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, forward)
        statuses = children.wait()
        ignore_signals()
        killed = kills_for_memory() > kills
        codes = [code_of(status, out_of_memory=killed) for status in statuses]
        chosen = most_telling(codes)
        messages = [_message(file) for file in children.messages]
    code, own = codes[chosen], messages[chosen]
    text = own.message if own else _epitaph(pod, chosen, statuses[chosen], code)
    first = next((message for message in messages if message is not None), None)
    message = first or TerminationMessage(exit_code=int(code), reason=TABLE[code][1], message=text)
    message = message.model_copy(
        update={"exit_code": int(code), "reason": TABLE[code][1], "message": text}
    )
    if own is None:
        log.error("%s: %s (exit %d)", TABLE[code][1], text, code)
    write_message(termination_log, message)
    return int(code)


def _epitaph(pod: Pod, child: int, status: int, code: ExitCode) -> str:
    """What to say of a process that could say nothing itself."""
    rank = pod.index * pod.processes + child
    how = f"with code {status}" if status >= 0 else f"by {signal.Signals(-status).name}"
    if code == ExitCode.OUT_OF_MEMORY:
        how += ": the container's memory was exhausted. Raise spec.resources.memory"
    return f"rank {rank} was ended {how}"
