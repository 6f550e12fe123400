"""Asking running pods for `/progress`: one long poll a job, bounded in time and size.

A pod is not to be trusted: it may lie, hang or send a gigabyte, and costs no more than its poll.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from pydantic import ValidationError
from pydantic_core import from_json

from kubeseg_operator import bounded_http
from kubeseg_operator.progress import MAX_REPORT_BYTES, believable
from kubeseg_operator.views import Key, Pod
from kubeseg_types.names import TRAINER_PORT
from kubeseg_types.trainer import Progress

log = logging.getLogger(__name__)

#: Seconds that a trainer may hold a poll, and what the network may add.
HOLD = 20.0
_SLACK = 10.0
_LIMITS = bounded_http.Limits(MAX_REPORT_BYTES, connect=5.0, total=HOLD + _SLACK)
#: A pod whose report changes all the time is asked no more often than this, in seconds.
_SHORTEST = 0.4
_FEW_ERRORS = 64
_FIRST_RETRY, _LONGEST_RETRY = 0.5, 15.0


@dataclass(frozen=True, slots=True)
class Target:
    """The pod to ask, and whom it must speak for."""

    uid: str
    attempt: int
    pod: str
    host: str


def target_of(uid: str, attempt: int, pods: tuple[Pod, ...], *, child: str | None) -> Target | None:
    """The running pod of this attempt, if there is one; of several workers, rank 0's.

    `child`: UID of the attempt's Job, None while it is not noted. Anybody can make a pod with the
    attempt's labels, which would then speak for it.
    """
    if child is None:
        return None
    ours = [p for p in pods if p.child == child and p.attempt == attempt and p.index == 0]
    running = [p for p in ours if p.running and p.ip and not p.gone]
    pod = max(running, key=lambda one: one.created, default=None)
    return Target(uid, attempt, pod.uid, pod.ip) if pod and pod.ip else None


class UntrueReportError(Exception):
    """What the pod sent is no report of this attempt."""


class Poller:
    """Keeps the newest report of each running job, and says when it has changed."""

    def __init__(self, changed: Callable[[Key], None], port: int = TRAINER_PORT) -> None:
        self._changed, self._port = changed, port
        self._reports: dict[Key, Progress] = {}
        self._tasks: dict[Key, tuple[Target, asyncio.Task[None]]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for _target, task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*(task for _t, task in self._tasks.values()), return_exceptions=True)

    def report(self, key: Key) -> Progress | None:
        """The newest report of this job's running attempt."""
        return self._reports.get(key)

    def aim(self, key: Key, target: Target | None) -> None:
        """Ask this pod from now on; None ends the asking."""
        known = self._tasks.get(key)
        if known and known[0] == target and not known[1].done():
            return
        if known:
            known[1].cancel()
            del self._tasks[key]
        if target is None:
            self._reports.pop(key, None)
        else:
            task = asyncio.get_running_loop().create_task(self._ask_on(key, target))
            self._tasks[key] = (target, task)

    async def _ask_on(self, key: Key, target: Target) -> None:
        seq, pause = 0, _FIRST_RETRY
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                report = await self._ask(target, seq)
            except (TimeoutError, UntrueReportError, OSError) as error:
                log.debug("%s: /progress of %s: %s", key, target.host, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_RETRY)
                continue
            pause = _FIRST_RETRY
            seq = report.seq
            if report != self._reports.get(key):
                self._reports[key] = report
                self._changed(key)
            await asyncio.sleep(max(0.0, _SHORTEST - (loop.time() - begun)))

    async def _ask(self, target: Target, seq: int) -> Progress:
        path = f"/progress?seq={seq}&wait={HOLD}"
        try:
            text = await bounded_http.get(target.host, self._port, path, _LIMITS)
        except bounded_http.BadAnswerError as error:
            raise UntrueReportError(str(error)) from error
        return read_report(text, target)


def read_report(text: bytes, target: Target) -> Progress:
    """The report in `text`. Raises UntrueReportError where it is none of this target."""
    try:
        # Parsed first: of JSON each error would hold a copy of all that was sent.
        report = Progress.model_validate(from_json(text))
    except ValidationError as error:
        raise UntrueReportError(f"no report: {_in_short(error)}") from None
    except ValueError as error:
        raise UntrueReportError(f"no JSON: {error}") from None
    if report.uid != target.uid or report.attempt != target.attempt:
        raise UntrueReportError(f"speaks for {report.uid[:64]}, attempt {report.attempt}")
    doubt = believable(report)
    if doubt:
        raise UntrueReportError(doubt)
    return report


def _in_short(error: ValidationError) -> str:
    """The first error, where they are few: a list of thousands would hold up everybody."""
    count = error.error_count()
    if count > _FEW_ERRORS:
        return f"{count} errors"
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}; errors in all: {count}"
