"""The operator's own watches under faults: the real Watches, Intake, Store and Client.

One run is one seed. For some minutes everything changes and anything goes wrong. Then all is calm,
and no audit helps: the store must come to what the API server has, and the queue must have heard of
all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from random import Random
from typing import cast

import aiohttp

from kubeseg_operator.apply import Applier
from kubeseg_operator.audit import Auditor
from kubeseg_operator.client import ApiError, ApiUnreachableError, Client
from kubeseg_operator.clock import stamp
from kubeseg_operator.decide import Ask
from kubeseg_operator.observe import LiveReader
from kubeseg_operator.store import Store
from kubeseg_operator.views import JobView, Key, Pod
from kubeseg_operator.watched import CHILDREN, JOBS, KINDS, PODS, Intake, key_of
from kubeseg_operator.watching import SILENCE, Watches
from kubeseg_types.names import LABEL_JOB
from tests.faults import virtual_time
from tests.faults.api_model import ApiModel, selected
from tests.faults.process import clock
from tests.faults.rash import NAMESPACES, Rash
from tests.faults.surprises import surprises
from tests.faults.weather import Weather
from tests.faults.wire import Wire

#: Versions of objects, by UID, and whether they are gone.
Picture = frozenset[tuple[str, str, bool]]
_SCOPES: tuple[list[str | None], ...] = ([None], [NAMESPACES[0]], [*NAMESPACES[:2]])
#: Seconds after which everything is known: a silence, a back-off, a list; and then those without a
#: change in which nothing must be listed again, and how often it is looked at.
SETTLED, QUIET, _STEP = SILENCE + 120.0, 600.0, 20.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one seed."""

    seed: int
    findings: list[str]
    #: Each request, and what became of it.
    log: list[str]

    @property
    def name(self) -> str:
        """What was run."""
        return f"watches seed={self.seed}"

    @property
    def again(self) -> str:
        """What `python -m tests.faults` has to be told to run it once more."""
        return f"--watches --seed {self.seed}"


class _Store(Store):
    """The real one; notes which pods were read live, and whose they were found to be."""

    def __init__(self) -> None:
        super().__init__(clock)
        self.read: dict[str, Key] = {}

    def adopt_pod(self, key: Key, pod: Pod, listed: str) -> bool:
        self.read[pod.uid] = key
        return super().adopt_pod(key, pod, listed)


class Operator:
    """Its watches, its store, and what is read beside them; `seen` is what its queue heard of."""

    def __init__(self, wire: Wire, scope: list[str | None]) -> None:
        self.store = _Store()
        self.seen: dict[Key, Picture] = {}
        #: Set once nothing is to be read beside the watches any more.
        self.over = False
        client = Client("http://api", headers=dict, tls=None)
        client._session = cast("aiohttp.ClientSession", wire)
        intake = Intake(self.store, self._see)
        time = asyncio.get_running_loop().time
        self.watches = Watches(client, intake, scope, clock=time)
        self._auditor = Auditor(client, intake, scope)
        self._live, self._applier = LiveReader(client, self.store), Applier(client, self.store)

    def picture(self, key: Key) -> Picture:
        """What the store has of a key, by UID: versions, and whether it is gone."""
        job = self.store.job(key)
        jobs = [(job.uid, job.version, False)] if job else []
        children = [(each.uid, each.version, False) for each in self.store.children(key)]
        pods = [(each.uid, each.version, each.gone) for each in self.store.pods(key)]
        return frozenset(jobs + children + pods)

    async def read_beside(self, random: Random) -> None:
        """Full lists, and visits that read live."""
        pause, lists = random.choice((1.0, 3.0, 10.0)), random.choice((0.2, 0.8))
        while not self.over:
            await asyncio.sleep(random.random() * pause)
            with contextlib.suppress(ApiError, ApiUnreachableError):
                if random.random() < lists:
                    await self._auditor.load()
                elif len(self.store):
                    await self._visit(random.choice(list(self.store)), random)

    async def _visit(self, job: JobView, random: Random) -> None:
        """As the reconciler's: what it has read itself it has seen."""
        try:
            match random.choice(("job", "child", "pods")):
                case "job":
                    await self._applier.refresh(job)
                case "child":
                    await self._live.answer(Ask.CHILD, job)
                case _:
                    await self._live.answer(Ask.PODS, job)
        finally:
            self._see(job.key)

    def _see(self, key: Key) -> None:
        self.seen[key] = self.picture(key)


@dataclass(slots=True)
class Run:
    """One run of one seed."""

    seed: int
    scope: list[str | None]
    api: ApiModel
    wire: Wire
    operator: Operator
    findings: list[str] = field(default_factory=list)

    async def live(self, random: Random, rash: Rash, seconds: float) -> None:
        """Some minutes in which anything happens, time to notice all of it, and then a rest."""
        loop, pace = asyncio.get_running_loop(), random.choice((0.5, 2.0, 5.0))
        for _ in range(random.choice((0, 10, 40))):
            rash.act()
        tasks = [loop.create_task(self.operator.watches.run())]
        tasks.append(loop.create_task(self.wire.forget()))
        if random.random() < 0.85:
            tasks.append(loop.create_task(self.operator.read_beside(random)))
        while loop.time() < seconds:
            rash.act()
            await asyncio.sleep(random.random() * pace)
        self.wire.weather.over = self.operator.over = True
        await asyncio.sleep(SETTLED)
        for task in tasks:
            if task.done() and task.exception():
                self.say(f"died of {task.exception()!r}")
        self.compare()
        await self.rest(rash)
        self.compare()

    async def rest(self, rash: Rash) -> None:
        """Nothing changes that it watches: it lists nothing, and is well."""
        lists = self.wire.lists
        for _ in range(int(QUIET / _STEP)):
            rash.make_other()
            await asyncio.sleep(_STEP)
            ages = [age for *_, age in self.operator.watches.ages()]
            if len(ages) < len(KINDS) * len(self.scope) or max(ages) >= SILENCE:
                self.say("a watch has told nothing for longer than a silence")
        if ill := self.operator.watches.ill():
            self.say(f"ill: {ill}")
        if self.wire.lists > lists:
            self.say("lists, although nothing happens")

    def compare(self) -> None:
        """The store has what the API server has, and the queue has heard of it."""
        wanted, found = self._there(), self._known()
        for uid in sorted(wanted.keys() | found.keys()):
            if found.get(uid) != wanted.get(uid) and not self._read_live(uid, found.get(uid)):
                self.say(f"{uid[-4:]} is {found.get(uid)} in the store, not {wanted.get(uid)}")
        for key in sorted(self.operator.store.keys() | self.operator.seen.keys()):
            picture, seen = self.operator.picture(key), self.operator.seen.get(key, frozenset())
            # A pod that only bore its label is nothing to it.
            read = self.operator.store.read
            unheard = {each for each in picture ^ seen if read.get(each[0], key) == key}
            if unheard:
                self.say(f"{key}: nobody heard of {sorted(unheard)}")

    def _there(self) -> dict[str, list[tuple[str, Key, str]]]:
        """What the store should have, by UID: kind, key and version."""
        there: dict[str, list[tuple[str, Key, str]]] = {}
        for kind in KINDS:
            for raw in self.api.all(kind.plural):
                meta, key = raw["metadata"], key_of(kind, raw)
                within = self.scope == [None] or meta["namespace"] in self.scope
                if within and key and selected(raw, {"labelSelector": kind.selector or ""}):
                    there[meta["uid"]] = [(kind.plural, key, meta["resourceVersion"])]
        return there

    def _known(self) -> dict[str, list[tuple[str, Key, str]]]:
        """What it has, but for pods that are gone."""
        store = self.operator.store
        known: dict[str, list[tuple[str, Key, str]]] = {}
        for job in store:
            known.setdefault(job.uid, []).append((JOBS.plural, job.key, job.version))
        for key in sorted(store.keys()):
            for child in store.children(key):
                known.setdefault(child.uid, []).append((CHILDREN.plural, key, child.version))
            for pod in store.pods(key):
                if not pod.gone:
                    known.setdefault(pod.uid, []).append((PODS.plural, key, pod.version))
        return known

    def _read_live(self, uid: str, found: list[tuple[str, Key, str]] | None) -> bool:
        """A Job that has lost its label is in the store where it was read by its name, and a pod
        with no label, or another's, where it was read by the Job that has made it.
        """
        if found is not None and [key for _, key, _ in found] == [
            self.operator.store.read.get(uid)
        ]:
            return True
        told = [each.raw for each in self.wire.history.changes["jobs"]]
        last = [raw for raw in told if raw["metadata"]["uid"] == uid][-1:]
        return any(not selected(raw, {"labelSelector": LABEL_JOB}) for raw in last)

    def say(self, what: str) -> None:
        """A finding."""
        if what not in self.findings:
            self.findings.append(what)


def run(seed: int) -> Outcome:
    """One seed, from the beginning to the end."""

    async def live() -> Outcome:
        random = Random(f"watches {seed}")
        seconds = random.uniform(120, 240)
        api = ApiModel(now=lambda: stamp(clock()))
        wire = Wire(api, Weather(random, seconds))
        scope = random.choice(_SCOPES)
        it = Run(seed, scope, api, wire, Operator(wire, scope))
        with surprises(it.say):
            await it.live(random, Rash(api, Random(f"rash {seed}")), seconds)
        return Outcome(seed, it.findings, wire.calls)

    return virtual_time.run(live())
