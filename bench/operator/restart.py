"""A restart with thousands of jobs: until nothing is left to do, and what it writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench.operator.audit_log import writes
from bench.operator.burst import busy_controller, prepare
from bench.operator.load import NAMESPACE, client_of, together
from bench.operator.ours import operator
from bench.operator.plane import Plane, control_plane
from bench.report import Measure, single
from kubeseg_operator.apply import children_path
from kubeseg_operator.clock import stamp, utc_now
from kubeseg_operator.views import Raw
from kubeseg_types.names import MANAGED_BY

#: Seconds without news, for writes that nothing asks for.
QUIET = 20.0


def _finish_all(plane: Plane) -> None:
    """Let every Job have succeeded, as the Job controller writes it."""
    now = stamp(utc_now())
    true = {"status": "True", "lastTransitionTime": now, "lastProbeTime": now}
    status = {
        "startTime": now,
        "completionTime": now,
        "succeeded": 1,
        "completedIndexes": "0",
        "uncountedTerminatedPods": {},
        "conditions": [
            {"type": "SuccessCriteriaMet", "reason": "CompletionsReached", **true},
            {"type": "Complete", "reason": "CompletionsReached", **true},
        ],
    }

    async def finish() -> None:
        async with client_of(plane.kubeconfig) as client:
            made = [raw async for raw in client.list(children_path(NAMESPACE))]

            async def one(raw: Raw) -> None:
                path = children_path(NAMESPACE, raw["metadata"]["name"])
                await client.replace(f"{path}/status", raw | {"status": status})

            await together(made, one)

    asyncio.run(finish())


def restart(count: int, *, repeats: int) -> Iterator[Measure]:
    """With `count` jobs that wait for the Job controller, then with as many that have ended."""
    with control_plane() as plane:
        prepare(plane, count)
        with busy_controller(plane):
            with operator(plane) as first:
                first.until_visited(count)
            waiting = [_again(plane, count) for _ in range(repeats)]
            with operator(plane) as middle:
                middle.until_visited(count)
                _finish_all(plane)
                middle.until_phase("Succeeded", count)
            ended = [_again(plane, count) for _ in range(repeats)]
    for kind, found in (("waiting", waiting), ("ended", ended)):
        seconds = [each.seconds for each in found]
        yield single(f"restart with {count:,} {kind}", "s", seconds, goal=15.0)
        words = f"  writes by it, and in {QUIET:.0f} s after, {kind}"
        yield single(words, "", [each.writes for each in found], goal=0.0)
    memory = [each.memory for each in waiting + ended]
    yield single("  memory after it", "MB", memory, goal=250.0)


@dataclass(frozen=True)
class _Restart:
    """What one cost."""

    seconds: float
    writes: int
    memory: float
    """MB"""


def _again(plane: Plane, count: int) -> _Restart:
    before = sum(writes(plane.audit_log, MANAGED_BY).values())
    with operator(plane) as again:
        seconds = again.until_visited(count)
        memory = again.memory()
        time.sleep(QUIET)
    sent = sum(writes(plane.audit_log, MANAGED_BY).values()) - before
    return _Restart(seconds, sent, memory)
