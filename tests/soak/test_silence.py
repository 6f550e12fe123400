"""The operator as it is, with its real intervals, behind a network that falls silent."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from pathlib import Path

import pytest

from tests.support.cluster import ROOT, TestCluster, wait_for
from tests.support.operator_process import CLAIM, OperatorProcess, Place, add_scripted_trainer
from tests.support.operator_rights import LEASE, operators_kubeconfig
from tests.support.silent_proxy import SilentProxy

pytestmark = [pytest.mark.cluster, pytest.mark.soak, pytest.mark.timeout(1200)]

CRD = ROOT / "charts" / "kubeseg" / "files" / "trainingjobs.yaml"


def behind(kubeconfig: Path, port: int) -> Path:
    """A kubeconfig that goes through the proxy."""
    config = json.loads(kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    file = kubeconfig.with_suffix(".proxied")
    file.write_text(json.dumps(config))
    return file


@pytest.mark.parametrize("leased", [False, True], ids=["alone", "with a Lease"])
async def test_silence_is_noticed(cluster: TestCluster, tmp_path: Path, leased: bool) -> None:
    add_scripted_trainer(cluster)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    place = Place(cluster, f"silence-{secrets.token_hex(3)}")
    cluster.kubectl("create", "namespace", place.name)
    place.apply(CLAIM)
    running = cluster.cluster.status().settings
    assert running
    async with SilentProxy(running.ports.api) as proxy:
        operator = OperatorProcess(
            place.name,
            tmp_path / "operator.log",
            behind(operators_kubeconfig(place, tmp_path), proxy.port),
            KUBESEG_LEASE=f"{place.name}/{LEASE}" if leased else "none",
        )
        try:
            await asyncio.to_thread(operator.start)
            place.job("before", {"epochs": 0})
            await asyncio.to_thread(place.phase, "before", "Succeeded")

            proxy.silence()
            begun = time.monotonic()
            place.job("meanwhile", {"epochs": 0})
            await asyncio.to_thread(place.phase, "meanwhile", "Succeeded", 200)
            print(f"silence → at work again: {time.monotonic() - begun:.0f} s")
            assert operator.probe("healthz") == 200

            proxy.silence(new_ones_too=True)
            begun = time.monotonic()
            if leased:
                assert await asyncio.to_thread(operator.ended, 30) == 1
                assert "no longer the leader" in operator.log.read_text()
                print(f"nothing comes through → it ends: {time.monotonic() - begun:.0f} s")
            else:
                await asyncio.to_thread(
                    wait_for, "the probe fails", lambda: operator.probe("healthz") == 500, 400
                )
                assert "has told nothing for" in operator.says("healthz")[1]
                print(f"nothing comes through → the probe: {time.monotonic() - begun:.0f} s")
        finally:
            operator.end()
            cluster.kubectl("delete", "namespace", place.name, "--wait=false")
