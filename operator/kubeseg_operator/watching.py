"""The watches: each lists a collection, and follows from there what happens to it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing

from kubeseg_operator.client import ApiError, ApiUnreachableError, Client
from kubeseg_operator.listing import take_all
from kubeseg_operator.watched import KINDS, Intake, Kind

log = logging.getLogger(__name__)

#: Seconds after which a watch that told nothing is left for a new one. Bookmarks come every minute,
#: so a stream that brings neither them nor events is dead.
SILENCE = 90.0
#: Seconds of silence after which a watch counts as standing still: new connections didn't help.
PATIENCE = 240.0
#: Seconds between an end and the next try: the first, and the longest after failures in a row.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0


class Watch:
    """One collection. An end without an error, and a broken connection, go on where it was; an
    error, such as a version that the API server has forgotten (410), begins with a list again.
    """

    def __init__(
        self,
        client: Client,
        intake: Intake,
        kind: Kind,
        namespace: str | None,
        *,
        silence: float,
        clock: Callable[[], float],
    ) -> None:
        self.kind, self.namespace = kind, namespace
        #: Set once it has been listed.
        self.listed = asyncio.Event()
        self._client, self._intake = client, intake
        self._silence, self._clock = silence, clock
        self._version: str | None = None
        self._told_at: float | None = None
        self._path = kind.path(namespace)

    @property
    def age(self) -> float | None:
        """Seconds since it told something: a list, a beginning, an event, a bookmark.

        None where it has not been begun.
        """
        return None if self._told_at is None else self._clock() - self._told_at

    async def run(self) -> None:
        """Watch for ever."""
        pause = FIRST_PAUSE
        self._told()
        while True:
            told_at = self._told_at
            try:
                if self._version is None:
                    await self._list()
                await self._follow()
            except ApiError as error:
                self._version = None
                if error.code != 410:
                    log.warning("a watch has to begin anew: %s", error)
            except ApiUnreachableError as error:
                log.warning("a watch has lost its connection: %s", error)
            pause = FIRST_PAUSE if self._told_at != told_at else min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _list(self) -> None:
        version, _ = await take_all(self._client, self._intake, self.kind, self.namespace)
        self._told()
        self._version = version
        self.listed.set()

    async def _follow(self) -> None:
        assert self._version is not None
        events = self._client.watch(
            self._path,
            self._version,
            told=self._told,
            silence=self._silence,
            selector=self.kind.selector,
        )
        async with aclosing(events):  # type: ignore[type-var]
            async for event in events:
                raw = event["object"]
                if event["type"] != "BOOKMARK":
                    self._intake.take(self.kind, raw, deleted=event["type"] == "DELETED")
                self._version = raw["metadata"]["resourceVersion"]

    def _told(self) -> None:
        self._told_at = self._clock()


class Watches:
    """All of them, one a kind and namespace."""

    def __init__(
        self,
        client: Client,
        intake: Intake,
        namespaces: Sequence[str | None],
        *,
        silence: float = SILENCE,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._patience = patience
        self._all = [
            Watch(client, intake, kind, each, silence=silence, clock=clock)
            for kind in KINDS
            for each in namespaces
        ]

    async def run(self) -> None:
        """Watch for ever."""
        async with asyncio.TaskGroup() as group:
            for watch in self._all:
                group.create_task(watch.run())

    async def listed(self) -> None:
        """Wait until each has been listed once."""
        for watch in self._all:
            await watch.listed.wait()

    def ages(self) -> Iterator[tuple[str, str, float]]:
        """Resource, namespace ("" for all) and seconds since each watch last told something."""
        for watch in self._all:
            if (age := watch.age) is not None:
                yield watch.kind.plural, watch.namespace or "", age

    def ill(self) -> str | None:
        """A sentence where a watch has stood still; a standby does not watch."""
        for resource, namespace, age in self.ages():
            if age > self._patience:
                where = f" in {namespace}" if namespace else ""
                return f"the watch of {resource}{where} has told nothing for {age:.0f} s"
        return None
