"""The first process of a cluster's own PID namespace: starts all others and keeps them going.

    python -m kubeseg_local.supervisor FOLDER

When it ends, the kernel ends every process of the cluster, and its mounts vanish.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from kubeseg_local import kube, storage
from kubeseg_local.components import Component, all_components
from kubeseg_local.housekeeping import Housekeeping, node_is_ready
from kubeseg_local.kube import ApiError, Kube
from kubeseg_local.layout import CRI_SOCKET, KUBELET_ROOT, Layout, Settings
from kubeseg_local.runner import Runner
from kubeseg_local.state import ClusterState

POLL_S = 0.1
HEALTH_S = 2.0
PATIENCE_S = 10.0
#: What a kubelet sets on its machine: never on this one.
KERNEL_SETTINGS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
log = logging.getLogger("kubeseg_local.supervisor")


def prepare_mounts(layout: Layout, *, rootless: bool) -> None:
    """Hide the machine's folders that the kubelet would write to behind ones of our own."""
    for target in ("/var/lib", "/var/log"):
        _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", target)
    KUBELET_ROOT.mkdir()
    CRI_SOCKET.parent.mkdir(mode=0o700)
    # On disk, since emptyDir volumes lie there, but with a path short enough for its sockets.
    _mount("--bind", str(layout.kubelet), str(KUBELET_ROOT))
    if not rootless:
        _shield_kernel_settings()


def _shield_kernel_settings() -> None:
    """Let root's kubelet find what it wants, or it would set it for the whole machine."""
    for name, value in KERNEL_SETTINGS.items():
        setting = Path("/proc/sys") / name
        if setting.exists():
            file = CRI_SOCKET.parent / name.replace("/", ".")
            file.write_text(f"{value}\n")
            _mount("--bind", str(file), str(setting))


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"mount {' '.join(arguments)}: {done.stderr.strip()}")


class Supervisor:
    """Everything together."""

    def __init__(self, layout: Layout, settings: Settings) -> None:
        self._layout = layout
        self._settings = settings
        self._state = ClusterState()
        self._kube = Kube(layout, settings)
        self._runner = Runner(layout, self._state, self._save)
        self._components = all_components(layout, settings)
        self._housekeeping = Housekeeping(self._kube, layout, settings, self._warn)

    def _save(self) -> None:
        self._state.save(self._layout.state)

    def _warn(self, warnings: list[str]) -> None:
        if warnings != self._state.warnings:
            self._state.warnings = warnings
            self._save()

    async def run(self) -> None:
        """Until SIGTERM, or for ever."""
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        self._runner.attach()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._bring_up()),
                group.create_task(self._watch_health()),
                group.create_task(self._keep_house()),
            ]
            await stop.wait()
            for task in tasks:
                task.cancel()

    async def _keep_house(self) -> None:
        await self._until("waiting for the API server", self._api_ready)
        await self._housekeeping.run()

    async def _bring_up(self) -> None:
        for component in self._components:
            if not component.needs_api:
                self._runner.start(component)
        await self._until("waiting for the API server", self._api_ready)
        for component in self._components:
            if component.needs_api:
                self._runner.start(component)
        await self._until("making the storage class", self._storage_class)
        await self._until("waiting for the controllers", self._service_account)
        await self._until("waiting for the node", self._node_ready)
        await self._until("waiting for every component", self._all_healthy)
        if self._state.phase == "Starting":
            self._state.phase, self._state.doing = "Ready", ""
            self._save()

    async def _until(self, doing: str, condition: kube.Condition) -> None:
        started, obstacle = time.monotonic(), ""
        while True:
            if self._state.phase == "Starting" and self._state.doing != doing + obstacle:
                self._state.doing = doing + obstacle
                self._save()
            try:
                if await condition():
                    return
            except (httpx.HTTPError, ApiError) as error:
                # Refused or not answering, as components do that are starting; not for long.
                if time.monotonic() - started > PATIENCE_S:
                    obstacle = f" ({error})"
            await asyncio.sleep(POLL_S)

    async def _api_ready(self) -> bool:
        reply = await self._kube.http.get("/readyz")
        return reply.status_code == httpx.codes.OK

    async def _storage_class(self) -> bool:
        await self._kube.create(kube.STORAGE_CLASSES, storage.storage_class())
        return True

    async def _service_account(self) -> bool:
        path = f"{kube.NAMESPACES}/default/serviceaccounts/default"
        return await self._kube.get(path) is not None

    async def _node_ready(self) -> bool:
        return any(
            node_is_ready(node, self._settings.gpus) for node in self._housekeeping.nodes.objects()
        )

    async def _all_healthy(self) -> bool:
        states = self._state.components.values()
        return all(state.running and state.healthy for state in states)

    async def _watch_health(self) -> None:
        while True:
            before = [state.healthy for state in self._state.components.values()]
            for component in self._components:
                state = self._state.components.get(component.name)
                if state is not None:
                    state.healthy = state.running and await self._healthy(component)
            if before != [state.healthy for state in self._state.components.values()]:
                self._save()
            await asyncio.sleep(POLL_S if self._state.phase == "Starting" else HEALTH_S)

    async def _healthy(self, component: Component) -> bool:
        if component.health is None:
            return True
        try:
            reply = await self._kube.http.get(component.health)
        except httpx.HTTPError:
            return False
        return reply.status_code == httpx.codes.OK


def main() -> int:
    """Run the cluster in the folder named by the last argument."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    layout = Layout(Path(sys.argv[-1]))
    settings = Settings.load(layout.settings)
    if settings is None:
        log.error("%s is missing: start the cluster with `kubeseg-local up`", layout.settings)
        return 1
    prepare_mounts(layout, rootless=settings.rootless)
    asyncio.run(Supervisor(layout, settings).run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
