"""The full lists, now and then: what the watches missed is made good, and they are found out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kubeseg_operator.client import ApiError, ApiUnreachableError, Client
from kubeseg_operator.listing import known, take_all
from kubeseg_operator.store import Store
from kubeseg_operator.views import version_number
from kubeseg_operator.watched import KINDS, Intake

log = logging.getLogger(__name__)


class _Told(NamedTuple):
    """An object, and the version of it that the API server has; None: it is gone."""

    plural: str
    uid: str
    version: str | None

    def is_known(self, known: str | None) -> bool:
        """Whether a store that has version `known` has this, or something newer."""
        if self.version is None or known is None:
            return self.version is None and known is None
        return version_number(known) >= version_number(self.version)

    def __str__(self) -> str:
        return f"{self.plural}/{self.uid}@{self.version or 'gone'}"


@dataclass(slots=True)
class Auditor:
    """Compares store and API server. `missed` counts the audits in a row that had to make good."""

    client: Client
    intake: Intake
    #: None: all namespaces.
    namespaces: Sequence[str | None]
    interval: float = 300.0
    #: Seconds after which one that failed is tried again.
    again: float = 15.0
    #: Seconds that a watch may need to tell what a list has told.
    patience: float = 10.0
    missed: int = field(default=0)

    @property
    def store(self) -> Store:
        """The store that is audited."""
        return self.intake.store

    async def load(self) -> int:
        """List everything once, and drop what is gone; returns how much was news."""
        news = 0
        for kind in KINDS:
            for namespace in self.namespaces:
                news += (await take_all(self.client, self.intake, kind, namespace))[1]
        return news

    async def run(self) -> None:
        """Audit for ever, and have every job visited after each."""
        wait = self.interval
        while True:
            await asyncio.sleep(wait)
            try:
                await self._audit()
            except (ApiError, ApiUnreachableError) as error:
                log.warning("the audit of the watches failed, and will be tried again: %s", error)
                wait = min(self.again, self.interval)
                continue
            wait = self.interval
            for key in sorted(self.store.keys()):
                self.intake.enqueue(key)
                await asyncio.sleep(0)

    async def _audit(self) -> None:
        """Lists tell news all the time; what a watch has not told some seconds later was missed."""
        behind = await self._behind()
        if behind:
            await asyncio.sleep(self.patience)
            behind &= await self._behind()
        if not behind:
            self.missed = 0
            return
        await self.load()
        # What a list does not put right either is no fault of the watch.
        now = {kind.plural: self._versions(kind.plural) for kind in KINDS}
        made_good = {each for each in behind if each.is_known(now[each.plural].get(each.uid))}
        if made_good:
            self.missed += 1
            some = ", ".join(sorted(map(str, made_good))[:5])
            log.warning("watches have missed changes of %d objects: %s", len(made_good), some)
        else:
            self.missed = 0

    async def _behind(self) -> set[_Told]:
        """What the API server tells and the store does not have."""
        behind: set[_Told] = set()
        for kind in KINDS:
            versions = self._versions(kind.plural)
            gone = set(versions)
            for namespace in self.namespaces:
                async for raw in self.client.list(kind.path(namespace), selector=kind.selector):
                    meta = raw.get("metadata") or {}
                    told = _Told(kind.plural, meta.get("uid", ""), meta.get("resourceVersion", ""))
                    gone.discard(told.uid)
                    news = versions.get(told.uid) != told.version
                    if news and self.intake.concerns(kind, raw):
                        behind.add(told)
            # A watch that ends and begins anew tells nothing of what was deleted meanwhile.
            behind |= {_Told(kind.plural, uid, None) for uid in gone}
        return behind

    def _versions(self, plural: str) -> dict[str, str]:
        return {one.uid: one.version for _, one in known(self.store, plural)}
