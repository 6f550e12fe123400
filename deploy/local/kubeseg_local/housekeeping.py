"""What the supervisor keeps right in the cluster: its node, Services, names and volumes.

Each keeper looks at what is there and makes it what it should be, whenever something changed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Awaitable, Callable

import httpx

from kubeseg_local import addressing, kube, storage
from kubeseg_local.kube import ApiError, Kube, Manifest, Store
from kubeseg_local.layout import LOOPBACK, NODE, Layout, Settings
from kubeseg_local.proxy import ServiceProxy

GPU = "nvidia.com/gpu"
UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"
RETRY_S = 1.0
FIRST_FREE_PORT = 1024
log = logging.getLogger(__name__)


def node_status(node: Manifest, gpus: int) -> Manifest | None:
    """The status patch that the node needs, or None: its address, and the GPUs it pretends."""
    status = node.get("status", {})
    addresses = [
        {"type": "InternalIP", "address": LOOPBACK},
        {"type": "Hostname", "address": NODE},
    ]
    patch: Manifest = {}
    if status.get("addresses") != addresses:
        patch["addresses"] = addresses
    if gpus:
        # The kubelet would copy capacity to allocatable by itself, within ten seconds.
        for part in ("capacity", "allocatable"):
            if status.get(part, {}).get(GPU) != str(gpus):
                patch[part] = {GPU: str(gpus)}
    return {"status": patch} if patch else None


def node_taints(node: Manifest) -> Manifest | None:
    """The patch that takes the taint of a node without an address off, or None."""
    taints = node["spec"].get("taints", [])
    left = [each for each in taints if each["key"] != UNINITIALIZED]
    return {"spec": {"taints": left or None}} if len(left) != len(taints) else None


def node_is_ready(node: Manifest, gpus: int) -> bool:
    """Whether pods can be scheduled to it, and all its GPUs counted."""
    if node_status(node, gpus):
        return False
    conditions = node.get("status", {}).get("conditions", [])
    return not node["spec"].get("taints") and any(
        each["type"] == "Ready" and each["status"] == "True" for each in conditions
    )


class Housekeeping:
    """The keepers and what they know."""

    def __init__(
        self, client: Kube, layout: Layout, settings: Settings, warn: Callable[[list[str]], None]
    ) -> None:
        self._kube = client
        self._layout = layout
        self._settings = settings
        self._warn = warn
        self._proxy = ServiceProxy()
        self._node_changed = asyncio.Event()
        self._network_changed = asyncio.Event()
        self._storage_changed = asyncio.Event()
        self.nodes = Store(client, kube.NODES, [self._node_changed])
        self.services = Store(client, kube.SERVICES, [self._network_changed])
        self.pods = Store(client, kube.PODS, [self._network_changed])
        self.namespaces = Store(client, kube.NAMESPACES, [self._network_changed])
        self.claims = Store(client, kube.CLAIMS, [self._storage_changed])
        self.volumes = Store(client, kube.VOLUMES, [self._storage_changed])

    async def run(self) -> None:
        """Keep everything right, for ever."""
        stores = [
            self.nodes,
            self.services,
            self.pods,
            self.namespaces,
            self.claims,
            self.volumes,
        ]
        async with asyncio.TaskGroup() as group:
            for store in stores:
                group.create_task(store.follow())
            group.create_task(_keep(self._node_changed, self._keep_node))
            group.create_task(_keep(self._network_changed, self._keep_network))
            group.create_task(_keep(self._storage_changed, self._keep_storage))

    async def _keep_node(self) -> None:
        for node in self.nodes.objects():
            path = f"{kube.NODES}/{node['metadata']['name']}"
            if status := node_status(node, self._settings.gpus):
                await self._kube.patch(f"{path}/status", status)
            if taints := node_taints(node):
                await self._kube.patch(path, taints)

    async def _keep_network(self) -> None:
        if not (self.services.synced and self.pods.synced and self.namespaces.synced):
            return
        services, pods = self.services.objects(), self.pods.objects()
        self._keep_names(services, pods)
        api_port = self._settings.ports.api
        await self._proxy.update(addressing.listeners(services, pods, api_port))
        self._warn(
            [
                f"a Service's {address}:{port} can't be listened on: {why}"
                + (" (below 1024 only root may)" if port < FIRST_FREE_PORT else "")
                for (address, port), why in sorted(self._proxy.refused.items())
                # Clients inside pods are told the API server's real address.
                if address != self._settings.ports.api_service_address
            ]
        )

    def _keep_names(self, services: list[Manifest], pods: list[Manifest]) -> None:
        """Write each namespace's names, and from there the hosts file of each of its pods."""
        for each in self.namespaces.objects():
            namespace = each["metadata"]["name"]
            lines = addressing.hosts_lines(namespace, services, pods)
            text = "".join(f"{line}\n" for line in lines)
            path = self._layout.names / namespace
            if path.exists() and path.read_text() == text:
                continue
            temporary = path.with_name(f".{namespace}")
            temporary.write_text(text)
            os.replace(temporary, path)  # noqa: PTH105 - the verb that says it

    async def _keep_storage(self) -> None:
        if not (self.claims.synced and self.volumes.synced):
            return
        for claim in storage.missing(self.claims.objects(), self.volumes.objects()):
            folder = storage.volume_folder(self._layout.volumes, claim)
            folder.mkdir(exist_ok=True)
            folder.chmod(storage.FOLDER_MODE)
            await self._kube.create(kube.VOLUMES, storage.volume_for(claim, folder))
        for volume in storage.released(self.volumes.objects()):
            folder = self._layout.volumes / volume["spec"]["hostPath"]["path"].rsplit("/", 1)[1]
            if folder.exists():
                await asyncio.to_thread(shutil.rmtree, folder)
            await self._kube.delete(f"{kube.VOLUMES}/{volume['metadata']['name']}")


async def _keep(changed: asyncio.Event, once: Callable[[], Awaitable[None]]) -> None:
    while True:
        await changed.wait()
        changed.clear()
        try:
            await once()
        except (httpx.HTTPError, ApiError, OSError) as error:
            # The API server may be restarting, or somebody else was quicker: look again.
            log.info("%s: %r, looking again", once.__name__, error)
            await asyncio.sleep(RETRY_S)
            changed.set()
