"""A restart with thousands of jobs: until nothing is left to do, and what it writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from bench.operator.audit_log import writes
from bench.operator.burst import look_busy, prepare
from bench.operator.load import ANOTHER, NAMESPACE, client_of, together
from bench.operator.ours import operator
from bench.operator.plane import Plane, control_plane
from bench.report import Measure, single
from kubeseg_operator.apply import children_path
from kubeseg_operator.clock import stamp, utc_now
from kubeseg_operator.views import Raw
from kubeseg_types.names import LABEL_JOB, MANAGED_BY

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
            ours = f"{LABEL_JOB}!={ANOTHER}"
            made = [raw async for raw in client.list(children_path(NAMESPACE), selector=ours)]

            async def one(raw: Raw) -> None:
                path = children_path(NAMESPACE, raw["metadata"]["name"])
                await client.replace(f"{path}/status", raw | {"status": status})

            await together(made, one)

    asyncio.run(finish())


def restart(count: int, *, repeats: int) -> Iterator[Measure]:
    """With `count` jobs that wait for the Job controller, then with as many that have ended."""
    seconds: dict[str, list[float]] = {"waiting": [], "ended": []}
    sent: dict[str, list[float]] = {"waiting": [], "ended": []}
    memory: list[float] = []
    with control_plane() as plane:
        prepare(plane, count)
        for kind, took in seconds.items():
            with operator(plane) as first:
                first.until_visited(count)
                if kind == "ended":
                    _finish_all(plane)
                    first.until_phase("Succeeded", count)
                else:
                    first.until_phase("Starting", count)
            for _ in range(repeats):
                look_busy(plane)
                before = sum(writes(plane.audit_log, MANAGED_BY).values())
                with operator(plane) as again:
                    took.append(again.until_visited(count))
                    memory.append(again.memory())
                    time.sleep(QUIET)
                sent[kind].append(sum(writes(plane.audit_log, MANAGED_BY).values()) - before)
    for kind, took in seconds.items():
        yield single(f"restart with {count:,} {kind}", "s", took, goal=15.0)
        words = f"  writes by it, and in {QUIET:.0f} s after, {kind}"
        yield single(words, "", sent[kind], goal=0.0)
    yield single("  memory after it", "MB", memory, goal=250.0)
