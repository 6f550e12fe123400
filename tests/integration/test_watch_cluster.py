"""Watches that fall silent without an end: noticed, made good, and else told by the probe."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from kubeseg_operator.client import Client
from kubeseg_operator.connection import connect
from kubeseg_operator.store import Store
from kubeseg_operator.views import Key
from kubeseg_operator.watched import KINDS, Intake
from kubeseg_operator.watching import Watches
from tests.support.cluster import ROOT, Namespace, TestCluster
from tests.support.silent_proxy import SilentProxy

pytestmark = pytest.mark.cluster

CRD = ROOT / "charts" / "kubeseg" / "files" / "trainingjobs.yaml"
#: Seconds instead of a minute and a half, and of four minutes. The API server's bookmarks come
#: every minute, so a quiet watch is renewed all the time here. A list has as long for its answer.
SILENCE, PATIENCE = 2.0, 5.0


def training_job(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "kubeseg.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": {"dataset": {"name": "none"}, "training": {"epochs": 1}},
    }


async def soon(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - of plain attributes
            await asyncio.sleep(0.02)


@dataclass(frozen=True)
class Watching:
    """Watches at work behind a proxy that can fall silent, and what they have learned."""

    namespace: Namespace
    proxy: SilentProxy
    store: Store
    watches: Watches

    async def learns_of(self, name: str, seconds: float = 20) -> None:
        """The TrainingJob of this name is in the store."""
        await soon(lambda: self.store.job(Key(self.namespace.name, name)) is not None, seconds)


@pytest.fixture
async def proxy(
    cluster: TestCluster, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SilentProxy]:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    running = cluster.cluster.status().settings
    assert running
    async with SilentProxy(running.ports.api) as proxy:
        yield proxy


@contextlib.asynccontextmanager
async def watching(namespace: Namespace, proxy: SilentProxy) -> AsyncIterator[Watching]:
    store, connection = Store(), connect()
    async with Client(
        f"https://127.0.0.1:{proxy.port}",
        headers=connection.headers,
        tls=connection.tls,
        once=True,
        total=SILENCE,
    ) as client:
        watches = Watches(
            client,
            Intake(store, lambda _key: None),
            [namespace.name],
            silence=SILENCE,
            patience=PATIENCE,
        )
        task = asyncio.create_task(watches.run())
        try:
            yield Watching(namespace, proxy, store, watches)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_silent_watch_is_left_for_a_new_one_and_else_the_probe_tells(
    namespace: Namespace, proxy: SilentProxy
) -> None:
    async with watching(namespace, proxy) as it:
        namespace.apply(training_job("before"))
        await it.learns_of("before")

        # Silence on all connections there are: new ones bring what was missed.
        proxy.silence()
        namespace.apply(training_job("meanwhile"))
        await it.learns_of("meanwhile")
        await soon(lambda: it.watches.ill() is None)

        # Silence on new connections too: nothing helps, and the probe says which watch it is.
        proxy.silence(new_ones_too=True)
        await soon(lambda: it.watches.ill() is not None)
        assert f"in {namespace.name} has told nothing for" in (it.watches.ill() or "")

        proxy.mend()
        namespace.apply(training_job("after"))
        await it.learns_of("after")
        await soon(lambda: it.watches.ill() is None)


async def test_a_first_list_that_falls_silent_is_asked_for_again(
    namespace: Namespace, proxy: SilentProxy
) -> None:
    namespace.apply(training_job("there"))
    proxy.silence(new_ones_too=True)
    async with watching(namespace, proxy) as it:
        await soon(lambda: proxy.opened >= len(KINDS))
        proxy.mend()
        await it.learns_of("there")
        await soon(lambda: it.watches.ill() is None)
