"""Taking the Lease, keeping it, giving it back; and the fence that stands before every write."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime

from kubeseg_operator.client import ApiError, ApiUnreachableError, Client
from kubeseg_operator.clock import utc_now
from kubeseg_operator.lease import (
    ATTEMPT,
    DEADLINE,
    DURATION,
    INTERVAL,
    Sighting,
    held,
    read,
    released,
    sight,
    wait,
)

log = logging.getLogger(__name__)


class LeadershipLostError(Exception):
    """The Lease is not ours any more, or can't be renewed: this process must work no longer."""


def boottime() -> float:
    """Seconds that go on while the process is stopped, and while the machine sleeps.

    The clock of a paused virtual machine may stand still: then the writes' preconditions guard.
    """
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class Leadership:
    """One candidate for the Lease `namespace/name`.

    `client` is one of its own: renewals must not wait behind other calls, and aren't fenced.
    """

    def __init__(
        self,
        client: Client,
        place: tuple[str, str],
        me: str,
        *,
        clock: Callable[[], float] = boottime,
        wall: Callable[[], datetime] = utc_now,
    ) -> None:
        self._client, self._place, self.me = client, place, me
        self._clock, self._wall = clock, wall
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{place[0]}/leases"
        #: What the Lease said when it was last read or written; None: not known, or there is none.
        self._seen: Sighting | None = None
        #: When the last successful renewal was sent; None while we don't lead.
        self._renewed: float | None = None
        self._looked = False

    @property
    def leads(self) -> bool:
        """Whether writes may be sent now."""
        return self._renewed is not None and self._clock() < self._renewed + DEADLINE

    def fence(self) -> str | None:
        """A sentence where nothing may be written."""
        if self.leads:
            return None
        return f"the Lease {'/'.join(self._place)} is not held, or was not renewed in time"

    def standing(self) -> tuple[bool, str]:
        """Whether this pod counts as Ready while it waits, and what there is to say.

        A standby is Ready: a rolling update ends the old pod only when the new one is.
        """
        if not self._looked:
            return False, "the Lease could not be read yet"
        holder = self._seen.record.holder if self._seen else ""
        return True, f"standby: {holder or 'nobody'} leads"

    def ill(self) -> str | None:
        """A sentence where we should lead, and have not noticed that we don't."""
        if self._renewed is None or self._clock() < self._renewed + 3 * DURATION:
            return None
        return "the Lease has not been renewed for long, and nobody has noticed"

    async def acquire(self) -> None:
        """Wait until the Lease is ours, however long that takes."""
        told = ""
        while True:
            try:
                left = await self._try()
                said = f"standby: {self._seen.record.holder} leads" if self._seen else ""
            except (ApiError, ApiUnreachableError, TimeoutError) as error:
                left, said = INTERVAL, f"the Lease can't be had yet: {_words(error)}"
            if left == 0:
                log.info("%s leads", self.me)
                return
            if said != told:
                log.info("%s", said)
                told = said
            await asyncio.sleep(min(left, INTERVAL))

    async def keep(self) -> None:
        """Renew the Lease for ever. Raises LeadershipLostError."""
        assert self._renewed is not None, "acquire comes first"
        pause, why = INTERVAL, ""
        while True:
            await asyncio.sleep(pause)
            if not self.leads:
                raise self._lost(f"not renewed for {DEADLINE:g} s{why and ': ' + why}")
            try:
                if await self._try() > 0:
                    holder = self._seen.record.holder if self._seen else "somebody"
                    raise self._lost(f"{holder} has taken it")
                pause, why = INTERVAL, ""
            except (ApiError, ApiUnreachableError, TimeoutError) as error:
                pause, why = INTERVAL / 4, _words(error)
                log.warning("the Lease was not renewed, trying again: %s", why)

    async def release(self) -> None:
        """Give the Lease back where it is ours, so that a standby need not wait. Never raises."""
        if not self.leads:
            return
        try:
            async with asyncio.timeout(ATTEMPT):
                if self._seen is None:
                    await self._look()
                self._renewed = None
                if self._seen and self._seen.record.holder == self.me:
                    body = released(*self._place, self._seen.record, self._wall())
                    await self._client.replace(f"{self._path}/{self._place[1]}", body)
        except (ApiError, ApiUnreachableError, TimeoutError) as error:
            log.warning("the Lease was not given back, and runs out by itself: %s", _words(error))

    async def _try(self) -> float:
        """Take or renew the Lease; 0: it is ours, else after how many seconds it may be taken.

        A leader knows its version and only writes; once that was refused, the Lease is read again.
        """
        async with asyncio.timeout(ATTEMPT):
            if self._renewed is None or self._seen is None:
                await self._look()
            left = wait(self._seen, self._clock(), self.me)
            if left > 0:
                return left
            await self._take()
            return 0.0

    async def _look(self) -> None:
        try:
            raw = await self._client.get(f"{self._path}/{self._place[1]}")
        except ApiError as error:
            if error.code != 404:
                raise
            self._seen = None
        else:
            self._seen = sight(self._seen, read(raw), self._clock())
        self._looked = True

    async def _take(self) -> None:
        known = self._seen.record if self._seen else None
        body = held(*self._place, known, self.me, self._wall())
        sent = self._clock()
        try:
            if known is None:
                raw = await self._client.create(self._path, body)
            else:
                raw = await self._client.replace(f"{self._path}/{self._place[1]}", body)
        except BaseException:
            if self._renewed is not None:
                # Refused, or nobody knows: what the Lease says now has to be read.
                self._seen = None
            raise
        self._seen, self._renewed = Sighting(read(raw), self._clock()), sent

    def _lost(self, why: str) -> LeadershipLostError:
        self._renewed = None
        return LeadershipLostError(f"no longer the leader: Lease {'/'.join(self._place)}: {why}")


def _words(error: BaseException) -> str:
    return str(error) or "no answer in time"
