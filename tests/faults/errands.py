"""Jobs beside the attempts, scripted: the check before them, the clean-up after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from kubeseg_types.names import LABEL_CLEANUP_OF, LABEL_JOB
from kubeseg_types.trainer import Progress, TerminationMessage
from tests.faults.trainer import Cluster, Ended

Raw = dict[str, Any]
#: Seconds that a check or a clean-up takes.
SECONDS = 1.5


def is_errand(pod: Raw) -> bool:
    """True of a pod that trains nothing."""
    arguments = pod["spec"]["containers"][0].get("args", ["train"])
    return bool(arguments[0] != "train")


class Errand:
    """The process in one pod; it has no `/progress`."""

    def __init__(self, cluster: Cluster, pod: Raw, address: str) -> None:
        self._cluster, self.address = cluster, address
        self._labels = pod["metadata"]["labels"]
        self.name, self.ended = pod["metadata"]["name"], False
        self._timer: asyncio.TimerHandle | None = None
        self._done: Callable[[Ended], None] = lambda _end: None

    def start(self, done: Callable[[Ended], None]) -> None:
        """Begin; `done` is called once it has ended."""
        self._done = done
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._cluster.pace(SECONDS), self._finish)

    def terminate(self, _grace: float) -> None:
        """SIGTERM ends it at once."""
        if not self.ended and self._timer:
            self._timer.cancel()
            self._end(Ended(75))

    async def progress(self, _seq: int, _hold: float) -> Progress:
        """Nobody listens."""
        raise OSError("connection refused")

    def _finish(self) -> None:
        run = self._labels.get(LABEL_CLEANUP_OF)
        if run is not None:
            if run in self._cluster.runs:
                self._cluster.runs[run].removed = True
            self._end(Ended(0))
        else:
            code = self._cluster.checks.get(self._labels[LABEL_JOB], 0)
            told = TerminationMessage(exit_code=code, reason="Scripted", message="as it is told")
            self._end(Ended(code, told.model_dump_json(by_alias=True, exclude_none=True)))

    def _end(self, end: Ended) -> None:
        self.ended = True
        self._done(end)
