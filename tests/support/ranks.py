"""Several real processes that train the tiny second task together."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from kubeseg_trainer.engine.signals import StopRequest
from kubeseg_trainer.environment import prepare_logging
from kubeseg_trainer.train_command import train
from tests.support.line_task import LineKind
from tests.support.trainings import Place, at_beat

#: Torch is imported once, in the process that the ranks are forked from (with what an optimizer
#: imports on first use, which takes seconds).
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "torch._dynamo",
        "kubeseg_trainer.assembly",
        "kubeseg_trainer.engine.rendezvous",
        "kubeseg_trainer.tasks.segmentation.task",
        "tests.support.ranks",
    ]
)
#: Nothing here takes longer, however busy the machine is.
DEADLINE = 120.0


@dataclass(frozen=True)
class Start:
    """How a rank is started."""

    folder: Path
    rank: int
    size: int
    port: int
    #: Of the second task; None: segmentation.
    kind: Mapping[str, Any] | None
    #: At which sign of life what happens: "kill", "terminate", or another configuration.
    at: tuple[int, str | dict[str, Any]] | None = None
    env: Mapping[str, str] = field(default_factory=dict)


def _run(start: Start) -> None:
    place = Place(start.folder, make=False)
    log = os.open(start.folder / f"rank-{start.rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= {
        "RANK": str(start.rank),
        "WORLD_SIZE": str(start.size),
        "LOCAL_RANK": str(start.rank),
        "LOCAL_WORLD_SIZE": str(start.size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(start.port),
        "OMP_NUM_THREADS": "1",
        **start.env,
    }
    stop = StopRequest()
    stop.install()
    prepare_logging(terminal=False, rank=start.rank)
    options = replace(
        place.options(), termination_log=start.folder / f"rank-{start.rank}.termination"
    )
    options.termination_log.touch()
    kind = None
    if start.kind is not None:
        seen = start.folder / f"rank-{start.rank}.seen"
        kind = LineKind(**{"seen": seen, **start.kind})

    def happen() -> None:
        assert start.at is not None
        match start.at[1]:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "terminate":
                os.kill(os.getpid(), signal.SIGTERM)
            case config:
                assert isinstance(config, dict)
                place.configure(config)

    with at_beat(start.at[0] if start.at else 0, happen):
        code = train(options, stop, kind)
    if kind is not None and kind.task is not None:
        (start.folder / f"rank-{start.rank}.digest").write_text(kind.digest())
    sys.exit(code)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Ranks:
    """A place, and the processes that train in it."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder)
        self.folder = folder

    def train(
        self,
        config: dict[str, Any],
        size: int,
        *,
        at: Mapping[int, tuple[int, str | dict[str, Any]]] | None = None,
        ranks: list[int] | None = None,
        env: Callable[[int], Mapping[str, str]] = lambda _: {},
        segmentation: bool = False,
        **kind: Any,
    ) -> list[int]:
        """Start `ranks` (all of `size`); returns their exit codes."""
        self.place.configure(config)
        port = free_port()
        started: list[ForkServerProcess] = []
        for rank in ranks if ranks is not None else range(size):
            start = Start(
                self.folder,
                rank,
                size,
                port,
                None if segmentation else kind,
                at=(at or {}).get(rank),
                env=env(rank),
            )
            process = _CONTEXT.Process(target=_run, args=(start,))
            process.start()
            started.append(process)
        deadline = time.monotonic() + DEADLINE
        try:
            for process in started:
                process.join(max(0.0, deadline - time.monotonic()))
            codes = [process.exitcode for process in started]
            assert None not in codes, f"still running after {DEADLINE} s\n{self.logs()}"
            return [code for code in codes if code is not None]
        finally:
            for process in started:
                if process.is_alive():
                    process.kill()

    def logs(self) -> str:
        """What all ranks have said."""
        files = sorted(self.folder.glob("rank-*.log"))
        return "\n".join(f"{file.name}:\n{file.read_text()}" for file in files)

    def seen(self) -> list[tuple[int, int]]:
        """(epoch, sample) of all training samples that any rank has asked for, sorted."""
        lines = [
            line
            for file in self.folder.glob("rank-*.seen")
            for line in file.read_text().split("\n")
        ]
        pairs = [line.split() for line in lines if line]
        return sorted((int(epoch), int(sample)) for epoch, sample in pairs)

    def digests(self) -> set[str]:
        """Of the weights and buffers that the ranks ended with."""
        return {file.read_text() for file in self.folder.glob("rank-*.digest")}
