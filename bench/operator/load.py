"""TrainingJobs by the thousand, and what has become of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from kubeseg_operator.apply import children_path, job_path
from kubeseg_operator.client import Client
from kubeseg_operator.clock import stamp, utc_now
from kubeseg_operator.connection import connect
from kubeseg_operator.views import Key
from kubeseg_types.names import API_VERSION, KIND, LABEL_JOB

T = TypeVar("T")
NAMESPACE, ELSEWHERE = "load", "elsewhere"
#: Requests in flight.
FLIGHT = 64


def key_of(number: int) -> Key:
    """Key of the TrainingJob with this number."""
    return Key(NAMESPACE, f"job-{number:05d}")


def training_job(number: int) -> dict[str, Any]:
    """A TrainingJob as a user writes it."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": key_of(number).name, "namespace": NAMESPACE},
        "spec": {
            "dataset": {"name": "discs"},
            "training": {"epochs": 10},
            "preflight": "Never",
        },
    }


@contextlib.asynccontextmanager
async def client_of(kubeconfig: Path) -> AsyncIterator[Client]:
    """The operator's own client, as the administrator."""
    os.environ["KUBECONFIG"] = str(kubeconfig)
    connection = connect()

    def headers() -> dict[str, str]:
        # The audit log tells our writes from the operator's by this.
        return {**connection.headers(), "User-Agent": "bench"}

    async with Client(
        connection.server, headers=headers, tls=connection.tls, connections=FLIGHT
    ) as client:
        yield client


async def together(items: Iterable[T], work: Callable[[T], Awaitable[Any]]) -> None:
    """`work` on each item, `FLIGHT` at a time."""
    waiting = iter(items)

    async def one() -> None:
        for item in waiting:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(FLIGHT):
            group.create_task(one())


async def make_jobs(client: Client, count: int) -> None:
    """`count` TrainingJobs in their namespace."""
    for name in (NAMESPACE, ELSEWHERE):
        await client.create(
            "/api/v1/namespaces",
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
        )
    path = job_path(Key(NAMESPACE, ""))

    async def make(number: int) -> None:
        await client.create(path.rstrip("/"), training_job(number))

    await together(range(count), make)


async def take_up_another(client: Client) -> None:
    """One more Job, of no TrainingJob that there is and elsewhere, has been taken up now."""
    container = {"name": "none", "image": "none"}
    pod = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    meta = {"generateName": "another-", "labels": {LABEL_JOB: "another"}}
    made = await client.create(
        children_path(ELSEWHERE), {"metadata": meta, "spec": {"template": pod}}
    )
    path = children_path(ELSEWHERE, f"{made['metadata']['name']}/status")
    await client.replace(path, made | {"status": {"startTime": stamp(utc_now())}})


async def how_many_children(client: Client) -> int:
    """Jobs that there are."""
    answer = await client.get(children_path(NAMESPACE), limit="1")
    return len(answer.get("items") or []) + int(answer["metadata"].get("remainingItemCount") or 0)


async def until_children(
    client: Client, count: int, deadline: float, alive: Callable[[], bool]
) -> None:
    """Wait until there are `count` Jobs.

    SystemExit after `deadline` s, or where who makes them is not `alive`.
    """
    began = time.monotonic()
    while (made := await how_many_children(client)) < count:
        took = time.monotonic() - began
        if took > deadline or not alive():
            raise SystemExit(f"only {made} of {count} Jobs after {took:.0f} s")
        # Rarely: an API server that counts is one that does not create.
        await asyncio.sleep(2)
