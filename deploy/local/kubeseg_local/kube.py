"""A small client of the API server: objects as plain dicts, and stores that follow a kind."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx

from kubeseg_local.layout import LOOPBACK, Layout, Settings

Manifest = dict[str, Any]
Condition = Callable[[], Awaitable[bool]]
log = logging.getLogger(__name__)

NODES = "/api/v1/nodes"
NAMESPACES = "/api/v1/namespaces"
PODS = "/api/v1/pods"
SERVICES = "/api/v1/services"
CLAIMS = "/api/v1/persistentvolumeclaims"
VOLUMES = "/api/v1/persistentvolumes"
STORAGE_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
PAUSE_S = 0.5
# An idle watch is renewed: a connection that died unnoticed must not go on for ever.
WATCH_S = 300


class ApiError(Exception):
    """The API server refused."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Kube:
    """The API server as the cluster's administrator sees it."""

    def __init__(self, layout: Layout, settings: Settings) -> None:
        context = ssl.create_default_context(cafile=str(layout.pki / "ca.crt"))
        context.load_cert_chain(layout.pki / "admin.crt", layout.pki / "admin.key")
        self.http = httpx.AsyncClient(
            base_url=f"https://{LOOPBACK}:{settings.ports.api}",
            verify=context,
            timeout=httpx.Timeout(10),
            trust_env=False,
        )

    async def get(self, path: str) -> Manifest | None:
        """The object or list at `path`, or None when there is none."""
        return await self._call("GET", path, missing_ok=True)

    async def create(self, path: str, body: Manifest) -> Manifest | None:
        """Create `body` below `path`; None when it is there already."""
        try:
            return await self._call("POST", path, body)
        except ApiError as error:
            if error.status == 409:
                return None
            raise

    async def patch(self, path: str, body: Manifest) -> Manifest | None:
        """Merge `body` into the object at `path`; None when there is none."""
        return await self._call("PATCH", path, body, missing_ok=True)

    async def delete(self, path: str) -> None:
        """Delete the object at `path`, if it is there."""
        await self._call("DELETE", path, missing_ok=True)

    async def _call(
        self, method: str, path: str, body: Manifest | None = None, *, missing_ok: bool = False
    ) -> Manifest | None:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        content = None if body is None else json.dumps(body)
        reply = await self.http.request(
            method, path, content=content, headers={"Content-Type": kind}
        )
        if reply.status_code == 404 and missing_ok:
            return None
        if reply.status_code >= 400:
            raise ApiError(reply.status_code, _message(reply.text))
        answer: Manifest = reply.json()
        return answer

    async def watch(self, path: str, version: str) -> AsyncIterator[tuple[str, Manifest]]:
        """(type, object) of each change after `version`; ends when the server ends it."""
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(WATCH_S)}
        limits = httpx.Timeout(10, read=WATCH_S + 30)
        async with self.http.stream("GET", path, params=query, timeout=limits) as reply:
            if reply.status_code >= 400:
                raise ApiError(reply.status_code, (await reply.aread()).decode(errors="replace"))
            async for line in reply.aiter_lines():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError(event["object"].get("code", 500), event["object"]["message"])
                yield event["type"], event["object"]


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return text[:300]


class Store:
    """All objects of one kind, kept up to date by a watch."""

    def __init__(self, kube: Kube, path: str, changed: list[asyncio.Event]) -> None:
        self._kube = kube
        self._path = path
        self._changed = changed
        self._objects: dict[str, Manifest] = {}
        self.synced = False

    def objects(self) -> list[Manifest]:
        """The objects as last heard of."""
        return list(self._objects.values())

    def _tell(self) -> None:
        for event in self._changed:
            event.set()

    async def follow(self) -> None:
        """Keep up, for ever."""
        while True:
            try:
                await self._follow_once()
            except (httpx.HTTPError, ApiError, json.JSONDecodeError) as error:
                # The API server may be restarting; an expired version needs a new list. Both are
                # cured by beginning anew.
                log.info("watch of %s begins anew: %r", self._path, error)
                await asyncio.sleep(PAUSE_S)

    async def _follow_once(self) -> None:
        listed = await self._kube.get(self._path)
        assert listed is not None
        self._objects = {each["metadata"]["uid"]: each for each in listed["items"]}
        self.synced = True
        self._tell()
        async for kind, each in self._kube.watch(self._path, listed["metadata"]["resourceVersion"]):
            if kind == "DELETED":
                self._objects.pop(each["metadata"]["uid"], None)
            else:
                self._objects[each["metadata"]["uid"]] = each
            self._tell()
