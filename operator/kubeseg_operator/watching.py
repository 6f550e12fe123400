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
#: "Not now" or "not you": the version is as good as before, and thousands of objects need not be
#: listed. After so many in a row they are nevertheless: it may be due to the version.
_PASSING, _PATIENT_FOR = frozenset({401, 403, 429, 500, 502, 503, 504}), 5


class Watch:
    """One collection. It goes on where it was; where the API server has forgotten that version
    (410), or does not accept it, it begins with a list again.
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
        #: Why it does not work at the moment.
        self.trouble: str | None = None
        self._client, self._intake = client, intake
        self._silence, self._clock = silence, clock
        self._version: str | None = None
        self._told_at: float | None = None
        #: Ends and errors since the last event.
        self._failures = 0
        #: Whether the trouble is that it may not.
        self._rights = False
        self._path = kind.path(namespace)

    def __str__(self) -> str:
        return f"the watch of {self.kind.plural}" + (
            f" in {self.namespace}" if self.namespace else ""
        )

    @property
    def age(self) -> float | None:
        """Seconds since it told something: that it begins, an event, a bookmark.

        None where it has not been begun. A list doesn't count: it may work where no watch does.
        """
        return None if self._told_at is None else self._clock() - self._told_at

    async def run(self) -> None:
        """Watch for ever."""
        self._told_at = self._clock()
        while True:
            try:
                if self._version is None:
                    await self._list()
                await self._follow()
            except ApiError as error:
                self._failed(error.code, error)
                if error.code not in _PASSING or (self._failures + 1) % _PATIENT_FOR == 0:
                    self._version = None
            except ApiUnreachableError as error:
                self._failed(0, error)
            pause = FIRST_PAUSE * 2.0 ** min(self._failures, 20)
            await asyncio.sleep(min(pause, LONGEST_PAUSE))
            self._failures += 1

    async def _list(self) -> None:
        self._version, _ = await take_all(self._client, self._intake, self.kind, self.namespace)
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
                self._failures = 0

    def _told(self) -> None:
        self._told_at = self._clock()
        if self.trouble is not None:
            log.info("%s works again", self)
            self.trouble = None

    def _failed(self, code: int, error: Exception) -> None:
        """Says so once, however often it is tried."""
        if code == 410:
            return
        rights = code in {401, 403}
        if self.trouble is None or self._rights != rights:
            log.warning("%s does not work, and is tried again: %s", self, error)
        self.trouble, self._rights = str(error), rights


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

    def waits_for(self) -> str:
        """What the first lists still wait for, as a sentence; "" where all are there."""
        missing = [watch for watch in self._all if not watch.listed.is_set()]
        troubled = next((watch for watch in missing if watch.trouble), None)
        if troubled:
            return f"{troubled} does not begin: {troubled.trouble}"
        return f"waits for the lists of {', '.join(w.kind.plural for w in missing)}" * bool(missing)

    def ages(self) -> Iterator[tuple[str, str, float]]:
        """Resource, namespace ("" for all) and seconds since each watch last told something."""
        for watch in self._all:
            if (age := watch.age) is not None:
                yield watch.kind.plural, watch.namespace or "", age

    def ill(self) -> str | None:
        """A sentence where a watch has stood still; a standby does not watch."""
        for watch in self._all:
            if (age := watch.age) is not None and age > self._patience:
                return f"{watch} has told nothing for {age:.0f} s" + (
                    f": {watch.trouble}" if watch.trouble else ""
                )
        return None
