"""Watches that fall silent without an end: noticed, made good, and else told by the probe."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import kopf
import pytest

from kubeseg_operator.connection import connect
from kubeseg_operator.handlers import registry, settings
from kubeseg_operator.store import Store
from kubeseg_operator.views import Key
from kubeseg_operator.watched import Intake
from kubeseg_operator.watching import Watches, for_kopf
from tests.support.cluster import ROOT, Namespace, TestCluster
from tests.support.silent_proxy import SilentProxy

pytestmark = pytest.mark.cluster

CRD = ROOT / "charts" / "kubeseg" / "files" / "trainingjobs.yaml"
#: Seconds instead of a minute and a half, and of four minutes. The API server's bookmarks come
#: every minute, so a quiet watch is renewed all the time here.
INACTIVITY, PATIENCE = 2.0, 5.0


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


async def test_a_silent_watch_is_left_for_a_new_one_and_else_the_probe_tells(
    cluster: TestCluster, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    running = cluster.cluster.status().settings
    assert running
    store = Store()
    watches = Watches([namespace.name], patience=PATIENCE)

    def knows(name: str) -> Callable[[], bool]:
        return lambda: store.job(Key(namespace.name, name)) is not None

    async with SilentProxy(running.ports.api) as proxy:
        connection = replace(connect(), server=f"https://127.0.0.1:{proxy.port}")
        begun = asyncio.Event()
        watches.begin()
        watch = asyncio.create_task(
            kopf.operator(
                registry=registry(
                    Intake(store, lambda _key: None),
                    lambda: for_kopf(connection, watches, lambda _verb, _code: None),
                ),
                settings=settings(INACTIVITY),
                namespaces=[namespace.name],
                ready_flag=begun,
            )
        )
        try:
            await soon(begun.is_set)
            namespace.apply(training_job("before"))
            await soon(knows("before"))

            # Silence on all connections there are: new ones bring what was missed.
            proxy.silence()
            namespace.apply(training_job("meanwhile"))
            await soon(knows("meanwhile"))
            await soon(lambda: watches.ill() is None)

            # Silence on new connections too: nothing helps, and the probe says which watch it is.
            proxy.silence(new_ones_too=True)
            await soon(lambda: watches.ill() is not None)
            assert f"in {namespace.name} has told nothing for" in (watches.ill() or "")

            proxy.mend()
            namespace.apply(training_job("after"))
            await soon(knows("after"))
            await soon(lambda: watches.ill() is None)
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
