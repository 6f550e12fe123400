"""A burst of TrainingJobs: how fast their Jobs are made, and by how many writes."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

from bench import ENVIRONMENT, ROOT
from bench.operator.audit_log import creations, writes
from bench.operator.bare import bare
from bench.operator.load import NAMESPACE, client_of, make_jobs, take_up_another, until_children
from bench.operator.ours import operator
from bench.operator.plane import Plane, control_plane
from bench.report import Measure, compare, single
from kubeseg_types.names import MANAGED_BY

DEADLINE = 600.0
#: Seconds between the Jobs that the stand-in of the Job controller takes up.
BUSY_EVERY = 30.0


def _naive(plane: Plane, count: int) -> float:
    prepare(plane, count)
    with plane.layout.component_log("naive").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.operator.naive", str(plane.kubeconfig)],
            env=ENVIRONMENT, cwd=ROOT, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        return rate(plane, count, lambda: process.poll() is None)
    finally:
        process.terminate()
        process.wait(30)


def sent_only(plane: Plane, count: int) -> float:
    """Jobs a second of the bare twin."""
    prepare(plane, count)

    async def send() -> None:
        async with client_of(plane.kubeconfig) as client:
            await bare(client)

    asyncio.run(send())
    return _a_second(plane, count)


def prepare(plane: Plane, count: int) -> None:
    """`count` TrainingJobs on `plane`."""

    async def make() -> None:
        async with client_of(plane.kubeconfig) as client:
            await make_jobs(client, count)

    asyncio.run(make())


@contextlib.contextmanager
def busy_controller(plane: Plane) -> Iterator[None]:
    """Stand in for a Job controller that takes up others' Jobs all the time, and none of ours.

    None runs, and Jobs that are not taken up for two minutes would be reported.
    """
    over = threading.Event()

    async def take_up() -> None:
        async with client_of(plane.kubeconfig) as client:
            await take_up_another(client)

    def work() -> None:
        while not over.is_set():
            asyncio.run(take_up())
            over.wait(BUSY_EVERY)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        over.set()
        worker.join()


def rate(plane: Plane, count: int, alive: Callable[[], bool]) -> float:
    """Jobs a second that an operator, which runs, makes of the TrainingJobs there are."""

    async def wait() -> None:
        async with client_of(plane.kubeconfig) as client:
            await until_children(client, count, DEADLINE, alive)

    asyncio.run(wait())
    return _a_second(plane, count)


def _a_second(plane: Plane, count: int) -> float:
    """Jobs a second from the first to the last, as the API server has noted them."""
    made = creations(plane.audit_log, "jobs", NAMESPACE).values()
    if len(made) != count:
        raise SystemExit(f"the audit log tells of {len(made)} of {count} Jobs: it was cut")
    return (count - 1) / (max(made) - min(made))


def _ours(plane: Plane, count: int) -> tuple[float, dict[str, float]]:
    prepare(plane, count)
    with busy_controller(plane), operator(plane) as running:
        made = rate(plane, count, running.lives)
        running.until_visited(count)
        sent = writes(plane.audit_log, MANAGED_BY)
        told = sum(n for what, n in sent.items() if what == "create events")
        return made, {
            "writes": (sum(sent.values()) - told) / count,
            "memory": running.memory(),
            "processor": running.processor(),
        }


def burst(count: int, naive_count: int, *, repeats: int) -> Iterator[Measure]:
    """Jobs created a second beside both twins, and what it costs."""
    mine, naive, plain = [], [], []
    costs: list[dict[str, float]] = []
    for _ in range(repeats):
        with control_plane() as plane:
            made, found = _ours(plane, count)
        mine.append(made)
        costs.append(found)
        with control_plane() as plane:
            plain.append(sent_only(plane, count))
        with control_plane() as plane:
            naive.append(_naive(plane, naive_count))
    name = f"Jobs created, burst of {count:,}"
    yield compare(f"{name}, beside naive", "Jobs/s", mine, naive, goal=3.0)
    yield compare(f"{name}, beside bare", "Jobs/s", mine, plain, goal=0.8)
    for key, words, unit, goal in (
        ("writes", "writes a transition, events aside", "", 2.0),
        ("memory", f"memory at {count:,}", "MB", 250.0),
        ("processor", "processor time a job", "ms", None),
    ):
        scale = 1000 / count if key == "processor" else 1
        yield single(words, unit, [each[key] * scale for each in costs], goal=goal)
