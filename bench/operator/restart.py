"""A restart with thousands of jobs: until nothing is left to do, and what it writes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from bench.operator.audit_log import writes
from bench.operator.burst import prepare, rate
from bench.operator.load import NAMESPACE, client_of, together
from bench.operator.ours import operator
from bench.operator.plane import Plane, control_plane
from bench.report import Measure, single
from kubeseg_operator.apply import children_path, job_path
from kubeseg_operator.clock import stamp, utc_now
from kubeseg_operator.views import Key, Raw
from kubeseg_types.names import MANAGED_BY


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


def _finished(plane: Plane) -> int:
    async def count() -> int:
        async with client_of(plane.kubeconfig) as client:
            jobs = client.list(job_path(Key(NAMESPACE, "")).rstrip("/"))
            return len([raw async for raw in jobs if raw["status"].get("completionTime")])

    return asyncio.run(count())


def restart(count: int, *, repeats: int) -> Iterator[Measure]:
    """With `count` jobs in the middle of an attempt, then with as many that have ended."""
    seconds: dict[str, list[float]] = {"running": [], "ended": []}
    sent: dict[str, list[float]] = {"running": [], "ended": []}
    memory: list[float] = []
    with control_plane() as plane:
        prepare(plane, count)
        with operator(plane) as first:
            rate(plane, count, first.lives)
            first.until_visited(count)
        for kind, took in seconds.items():
            if kind == "ended":
                with operator(plane) as middle:
                    middle.until_visited(count)
                    _finish_all(plane)
                    middle.until_visited(2 * count)
                if _finished(plane) < count:
                    raise SystemExit("not every TrainingJob has ended: nothing to measure")
            for _ in range(repeats):
                before = sum(writes(plane.audit_log, MANAGED_BY).values())
                with operator(plane) as again:
                    took.append(again.until_visited(count))
                    memory.append(again.memory())
                sent[kind].append(sum(writes(plane.audit_log, MANAGED_BY).values()) - before)
    for kind, goal in (("running", 15.0), ("ended", 15.0)):
        yield single(f"restart with {count:,} {kind}", "s", seconds[kind], goal=goal)
        yield single(f"  its writes, {kind}", "", sent[kind], goal=0.0)
    yield single("  memory after it", "MB", memory, goal=250.0)
