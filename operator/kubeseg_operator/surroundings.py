"""Reading what is around a job that can't start: its claim, and nodes with what they offer.

Asked seldom, and remembered: thousands of jobs may wait for the same thing. What may not be read
is told as nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from kubeseg_operator.client import ApiError, Client
from kubeseg_operator.nodes import requests
from kubeseg_operator.views import Raw

#: Seconds that an answer is remembered: of a claim, of nodes, and that nodes may not be read.
CLAIM_LIFE, NODES_LIFE, REFUSED_LIFE = 15.0, 60.0, 600.0
#: A look at nodes and pods that takes long is repeated no sooner than so many times as long.
_REST = 20.0
#: Seconds after which nodes are too old to be told while somebody looks.
_STILL_GOOD = 600.0
_MOST_CLAIMS = 1000
_RUNNING_PODS = "status.phase!=Succeeded,status.phase!=Failed"

Answer = tuple[Raw, ...]
T = TypeVar("T")


class Surroundings:
    """Answers questions about claims and nodes."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client, self._clock = client, clock
        self._claims: dict[tuple[str, str], tuple[float, Answer]] = {}
        self._nodes: tuple[float, Answer] = (float("-inf"), ())
        self._lock = asyncio.Lock()

    async def claim(self, namespace: str, name: str) -> Answer:
        """The PersistentVolumeClaim; nothing where it is not there or may not be read."""
        until, answer = self._claims.get((namespace, name), (float("-inf"), ()))
        if self._clock() < until:
            return answer
        path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}"
        try:
            answer = (_slim_claim(await self._client.get(path)),)
        except ApiError as error:
            if error.code not in {403, 404}:
                raise
            answer = ()
        if len(self._claims) >= _MOST_CLAIMS:
            self._claims.clear()
        self._claims[namespace, name] = (self._clock() + CLAIM_LIFE, answer)
        return answer

    async def nodes(self) -> Answer:
        """All nodes, each with what pods hold of it as `held` (absent where that can't be seen)."""
        until, answer = self._nodes
        if self._lock.locked() and answer and self._clock() < until + _STILL_GOOD:
            # Somebody is looking: who asks meanwhile holds up nobody.
            return answer
        async with self._lock:
            until, answer = self._nodes
            if self._clock() < until:
                return answer
            begun = self._clock()
            answer, life = (), REFUSED_LIFE
            found = await _unless_refused(self._list_nodes)
            if found is not None:
                held = await _unless_refused(self._held)
                if held is not None:
                    found = [node | {"held": held.get(_name(node), {})} for node in found]
                took = self._clock() - begun
                answer, life = tuple(found), max(NODES_LIFE, _REST * took)
            self._nodes = (self._clock() + life, answer)
            return answer

    async def _list_nodes(self) -> list[Raw]:
        found = []
        async for raw in self._client.list("/api/v1/nodes"):
            status = raw.get("status") or {}
            slim = {name: status.get(name) for name in ("allocatable", "conditions")}
            found.append(
                {"metadata": {"name": _name(raw)}, "spec": raw.get("spec") or {}, "status": slim}
            )
        return found

    async def _held(self) -> dict[str, dict[str, int]]:
        held: dict[str, dict[str, int]] = {}
        async for pod in self._client.list("/api/v1/pods", fields=_RUNNING_PODS):
            node = (pod.get("spec") or {}).get("nodeName")
            for name, number in requests(pod).items() if node else ():
                there = held.setdefault(str(node), {})
                there[name] = there.get(name, 0) + number
        return held


async def _unless_refused(read: Callable[[], Awaitable[T]]) -> T | None:
    try:
        return await read()
    except ApiError as error:
        if error.code not in {401, 403, 404}:
            raise
        return None


def _slim_claim(raw: Raw) -> Raw:
    meta, spec = raw.get("metadata") or {}, raw.get("spec") or {}
    return {
        "metadata": {"uid": meta.get("uid", "")},
        "spec": {name: spec.get(name) for name in ("accessModes", "storageClassName")},
    }


def _name(raw: Raw) -> str:
    return str((raw.get("metadata") or {}).get("name", ""))
