"""`kubeseg-operator`: probes first, then the Lease, then the watches, then the work."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack

from kubeseg_operator import environment
from kubeseg_operator.audit import Auditor
from kubeseg_operator.client import ApiError, ApiUnreachableError, Client
from kubeseg_operator.connection import Connection, NoConnectionError, connect
from kubeseg_operator.environment import Environment
from kubeseg_operator.leader import Leadership, LeadershipLostError
from kubeseg_operator.metrics import JobCollector, OperatorCollector, OperatorMetrics
from kubeseg_operator.poller import Poller
from kubeseg_operator.probes import PortTakenError, Servers
from kubeseg_operator.reconcile import Reconciler
from kubeseg_operator.store import Store
from kubeseg_operator.views import Key
from kubeseg_operator.watched import JOBS, Intake
from kubeseg_operator.watching import Watches
from kubeseg_operator.work_queue import WorkQueue
from kubeseg_operator.workers import Workers

log = logging.getLogger("kubeseg_operator")


async def _until_served(client: Client, namespaces: list[str | None]) -> None:
    """Wait until the CRD is installed and may be listed, and say so: a Lease comes only then."""
    told = ""
    while True:
        try:
            for namespace in namespaces:
                await client.get(JOBS.path(namespace), limit="1")
            return
        except (ApiError, ApiUnreachableError) as error:
            if told != str(error):
                told = str(error)
                log.warning("TrainingJobs can't be listed yet, waiting: %s", told)
            await asyncio.sleep(1)


async def serve(connection: Connection, chosen: Environment) -> None:
    """Run until SIGTERM or SIGINT. Raises LeadershipLostError."""
    signalled = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signalled.set)
    working = asyncio.create_task(_serve(connection, chosen))
    stop = asyncio.create_task(signalled.wait())
    await asyncio.wait({working, stop}, return_when=asyncio.FIRST_COMPLETED)
    for task in (working, stop):
        task.cancel()
    result, _ = await asyncio.gather(working, stop, return_exceptions=True)
    if isinstance(result, Exception):
        raise result


async def _serve(connection: Connection, chosen: Environment) -> None:
    """Probes, then the Lease, then watches and work; the Lease is given back at the end."""
    scope: list[str | None] = [*chosen.namespaces] or [None]
    queue: WorkQueue[Key] = WorkQueue()
    store, metrics, loaded = Store(), OperatorMetrics(), asyncio.Event()
    intake = Intake(store, queue.add)

    def client(fence: Callable[[], str | None] = lambda: None, *, once: bool = False) -> Client:
        return Client(
            connection.server,
            headers=connection.headers,
            tls=connection.tls,
            observe=metrics.count_request,
            fence=fence,
            once=once,
        )

    async with AsyncExitStack() as stack:
        leader = None
        if chosen.lease:
            lease_client = await stack.enter_async_context(client())
            leader = Leadership(lease_client, chosen.lease, chosen.identity)
        api = await stack.enter_async_context(client(leader.fence if leader else lambda: None))
        poller = await stack.enter_async_context(Poller(queue.add))
        reconciler = Reconciler(api, store, poller, chosen.settings, written=metrics.count_start)
        workers = Workers(queue, reconciler, metrics)
        auditor = Auditor(api, intake, scope)
        watches = Watches(await stack.enter_async_context(client(once=True)), intake, scope)
        leads = asyncio.Event()
        metrics.registry.register(OperatorCollector(queue, watches.ages, leads.is_set))
        metrics.registry.register(JobCollector(store))

        def ill() -> str | None:
            if auditor.missed >= 2:
                return f"watches have stood still: {auditor.missed} audits in a row found news"
            return watches.ill() or workers.ill() or (leader.ill() if leader else None)

        def ready() -> tuple[bool, str]:
            if leader and not leads.is_set():
                return leader.standing()
            if loaded.is_set():
                return True, "ok"
            return False, f"starting: {watches.waits_for()}".removesuffix(": ")

        servers = Servers(
            chosen.host,
            ill=ill,
            ready=ready,
            registry=metrics.registry,
            probes_port=chosen.probes_port,
            metrics_port=chosen.metrics_port,
        )
        await stack.enter_async_context(servers)
        await _until_served(api, scope)
        if leader:
            await leader.acquire()
        leads.set()
        try:
            work = _work(watches, auditor, workers, loaded)
            await _together(watches.run(), work, *([leader.keep()] if leader else []))
        finally:
            # Nothing works any more: who takes over need not wait.
            leads.clear()
            if leader:
                await leader.release()


async def _work(
    watches: Watches, auditor: Auditor, workers: Workers, loaded: asyncio.Event
) -> None:
    # Visits begin with a full picture: half of one looks like children that are gone.
    await watches.listed()
    log.info("%d TrainingJobs found", len(auditor.store))
    loaded.set()
    async with asyncio.TaskGroup() as group:
        group.create_task(workers.run())
        group.create_task(auditor.run())


async def _together(*parts: Coroutine[None, None, None]) -> None:
    """Run all until one ends, then end the others; raises what one of them raised."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    # The last first: where the Lease is lost, that says why.
    for result in reversed(results):
        if isinstance(result, Exception):
            raise result


def main() -> None:
    """Entry point; exit code 0 after SIGTERM or SIGINT, 1 where the Lease was lost."""
    logging.basicConfig(
        level=environment.log_level(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stdout,
    )
    try:
        connection = connect()
        asyncio.run(serve(connection, environment.read(connection.namespace)))
    except (NoConnectionError, LeadershipLostError, PortTakenError) as error:
        raise SystemExit(f"kubeseg-operator: {error}") from error


if __name__ == "__main__":
    main()
