"""`kubeseg-operator`: probes first, then the watches, then the work."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine

import kopf

from kubeseg_operator.audit import Auditor
from kubeseg_operator.client import ApiError, ApiUnreachableError, Client
from kubeseg_operator.connection import Connection, connect
from kubeseg_operator.decide import Settings
from kubeseg_operator.handlers import registry, settings
from kubeseg_operator.metrics import JobCollector, OperatorMetrics
from kubeseg_operator.poller import Poller
from kubeseg_operator.probes import METRICS_PORT, PROBES_PORT, Servers
from kubeseg_operator.reconcile import Reconciler
from kubeseg_operator.store import Store
from kubeseg_operator.views import Key
from kubeseg_operator.watched import JOBS, Intake
from kubeseg_operator.work_queue import WorkQueue
from kubeseg_operator.workers import Workers
from kubeseg_types.names import ENV_POD_IP, ENV_TRAINER_IMAGE

log = logging.getLogger("kubeseg_operator")

ENV_NAMESPACES = "KUBESEG_NAMESPACES"
ENV_BACKOFF = "KUBESEG_BACKOFF_SECONDS"
ENV_PROBES_PORT = "KUBESEG_PROBES_PORT"
ENV_METRICS_PORT = "KUBESEG_METRICS_PORT"
DEFAULT_IMAGE = "kubeseg-trainer:latest"


def _namespaces() -> list[str]:
    return [name.strip() for name in os.environ.get(ENV_NAMESPACES, "").split(",") if name.strip()]


def _settings() -> Settings:
    image = os.environ.get(ENV_TRAINER_IMAGE) or DEFAULT_IMAGE
    text = os.environ.get(ENV_BACKOFF) or "10"
    try:
        backoff = float(text)
    except ValueError:
        backoff = -1.0
    if not 0 < backoff <= 300:
        raise SystemExit(f"{ENV_BACKOFF} must be a number above 0 and at most 300, not {text!r}")
    return Settings(image=image, backoff_seconds=backoff)


async def _until_served(client: Client, namespaces: list[str | None]) -> None:
    """Wait until the CRD is installed and may be listed: kopf would never notice it later."""
    told = False
    while True:
        try:
            for namespace in namespaces:
                await client.get(JOBS.path(namespace), limit="1")
            return
        except (ApiError, ApiUnreachableError) as error:
            if not told:
                log.warning("TrainingJobs can't be listed yet, waiting: %s", error)
                told = True
            await asyncio.sleep(1)


async def serve(connection: Connection) -> None:
    """Run until SIGTERM or SIGINT."""
    names = _namespaces()
    scope: list[str | None] = [*names] or [None]
    queue: WorkQueue[Key] = WorkQueue()
    store, metrics, ready = Store(), OperatorMetrics(), asyncio.Event()
    metrics.registry.register(JobCollector(store, lambda: len(queue)))
    intake = Intake(store, queue.add)
    client = Client(
        connection.server,
        headers=connection.headers,
        tls=connection.tls,
        observe=metrics.count_request,
    )
    async with client, Poller(queue.add) as poller:
        workers = Workers(queue, Reconciler(client, store, poller, _settings()), metrics)
        auditor = Auditor(client, intake, scope)

        def ill() -> str | None:
            if auditor.missed >= 2:
                return f"watches have stood still: {auditor.missed} audits in a row found news"
            return workers.ill()

        servers = Servers(
            os.environ.get(ENV_POD_IP) or "127.0.0.1",
            ill=ill,
            ready=ready.is_set,
            registry=metrics.registry,
            probes_port=int(os.environ.get(ENV_PROBES_PORT) or PROBES_PORT),
            metrics_port=int(os.environ.get(ENV_METRICS_PORT) or METRICS_PORT),
        )
        async with servers:
            await _until_served(client, scope)
            watches_begin = asyncio.Event()
            watch = kopf.operator(
                registry=registry(intake, connection),
                settings=settings(),
                clusterwide=not names,
                namespaces=names,
                ready_flag=watches_begin,
            )
            await _run(watch, watches_begin, auditor, workers, ready)


async def _run(
    watch: Coroutine[None, None, None],
    watches_begin: asyncio.Event,
    auditor: Auditor,
    workers: Workers,
    ready: asyncio.Event,
) -> None:
    """Watch and work, until a signal comes or one of the two fails."""
    signalled = asyncio.Event()

    async def work() -> None:
        await watches_begin.wait()
        # kopf has set handlers of its own, which wait five seconds for tasks that aren't its own.
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, signalled.set)
        # Visits begin with a full picture: half of one looks like children that are gone.
        await auditor.load()
        log.info("%d TrainingJobs found", len(auditor.store))
        ready.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(workers.run())
            group.create_task(auditor.run())

    tasks = [asyncio.create_task(part) for part in (watch, work(), signalled.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


def main() -> None:
    """Entry point; exit code 0 after SIGTERM or SIGINT."""
    logging.basicConfig(
        level=os.environ.get("KUBESEG_LOG_LEVEL", "INFO").upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stdout,
    )
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        connection = connect()
    except kopf.LoginError as error:
        raise SystemExit(f"kubeseg-operator: {error}") from error
    asyncio.run(serve(connection))


if __name__ == "__main__":
    main()
