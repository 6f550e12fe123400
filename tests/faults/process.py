"""One operator's process: the real store, intake, queue, workers, reconciler, auditor and client,
over a line that fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import cast

import aiohttp

from kubeseg_operator import workers
from kubeseg_operator.audit import Auditor
from kubeseg_operator.client import ApiError, ApiUnreachableError, Client
from kubeseg_operator.decide import Settings
from kubeseg_operator.metrics import OperatorMetrics
from kubeseg_operator.poller import Poller, Target, read_report
from kubeseg_operator.reconcile import Reconciler
from kubeseg_operator.store import Store
from kubeseg_operator.views import Key
from kubeseg_operator.watched import Intake
from kubeseg_operator.work_queue import WorkQueue
from kubeseg_types.trainer import Progress
from tests.faults.controllers import Controllers
from tests.faults.network import Feed, Line, Traffic
from tests.faults.schedule import Schedule

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BACKOFF = 10.0
SETTINGS = Settings(image="trainer:1", backoff_seconds=BACKOFF)
#: As many visits at a time as there are TrainingJobs in a scenario, and one more.
_WORKERS = 3


def clock() -> datetime:
    """The time in the loop's virtual seconds."""
    return START + timedelta(seconds=asyncio.get_running_loop().time())


class ScriptedPoller(Poller):
    """The real poller; only the request for a report is answered by the scripted trainers."""

    def __init__(self, changed: Callable[[Key], None], pods: Controllers, line: Line) -> None:
        super().__init__(changed)
        self._pods, self._line = pods, line

    async def _ask(self, target: Target, seq: int) -> Progress:
        await self._line.gate.wait()
        if self._pods.cluster.unreachable:
            await asyncio.sleep(5)
            raise TimeoutError
        for trainer in self._pods.trainers.values():
            if trainer.address == target.host and not trainer.ended:
                told = await trainer.progress(seq, 20.0)
                text = told.model_dump_json(by_alias=True, exclude_none=True)
                return read_report(text.encode(), target)
        raise OSError("connection refused")


class OperatorProcess:
    """Started once; killed at any moment, or frozen and woken. `ended` is called when it dies."""

    def __init__(
        self,
        who: str,
        traffic: Traffic,
        schedule: Schedule,
        controllers: Controllers,
        ended: Callable[[OperatorProcess], None],
    ) -> None:
        self.who, self._ended, self._traffic = who, ended, traffic
        self.line = Line(traffic, who, self.kill)
        self.queue: WorkQueue[Key] = WorkQueue(clock=asyncio.get_running_loop().time)
        self.store = Store()
        intake = Intake(self.store, self.queue.add)
        self.feed = Feed(traffic.api, schedule, intake, Random(f"{schedule.seed}/{who}"))
        client = Client("http://api", headers=dict, tls=None)
        client._session = cast("aiohttp.ClientSession", self.line)
        self._poller = ScriptedPoller(self.queue.add, controllers, self.line)
        reconciler = Reconciler(client, self.store, self._poller, SETTINGS, clock=clock)
        # What is remembered for some seconds is remembered for virtual ones.
        reconciler._live._around._clock = asyncio.get_running_loop().time
        reconciler._live._workloads._clock = asyncio.get_running_loop().time
        self._workers = workers.Workers(self.queue, reconciler, OperatorMetrics())
        self._auditor = Auditor(client, intake, [None])
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        """As kubeseg_operator.main does: watch, list, then visit and audit."""
        try:
            self.feed.open()
            await self._auditor.load()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._workers.run(at_once=_WORKERS))
                group.create_task(self._auditor.run())
        except (ApiError, ApiUnreachableError) as error:
            # main() lets it end the process, and Kubernetes starts it again.
            logging.getLogger(__name__).info("%s ends: %s", self.who, error)
            self.kill()
        except Exception as error:  # noqa: BLE001 - whatever ends an operator is a finding
            self._traffic.complain(f"the operator died of {error!r}")
            self.kill()
        finally:
            for _target, task in self._poller._tasks.values():
                task.cancel()

    @property
    def alive(self) -> bool:
        """It has not been killed."""
        return not self.line.dead

    def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing is cleaned up."""
        if self.line.dead:
            return
        self.line.dead = True
        self.feed.close()
        asyncio.get_running_loop().call_soon(self._task.cancel)
        self._ended(self)

    def freeze(self) -> None:
        """SIGSTOP, as far as the world can tell: nothing is heard, nothing is sent."""
        self.line.gate.clear()
        self.feed.held = True

    def wake(self) -> None:
        """SIGCONT: every job is visited with the old store; the watches notice only later."""
        self.line.gate.set()
        for key in sorted(self.store.keys()):
            self.queue.add(key)
        asyncio.get_running_loop().call_later(3.0, self._catch_up)

    def _catch_up(self) -> None:
        self.feed.held = False
        if self.alive:
            self.feed.relist()
