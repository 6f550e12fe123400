"""The model of the API server that fault schedules run on says what the real one says."""

from __future__ import annotations

import asyncio

import pytest

from kubeseg_operator.client import Client
from kubeseg_operator.connection import connect
from tests.faults.conformance import TRACES
from tests.faults.recorder import Recorder
from tests.faults.test_model import lines_of_the_model
from tests.support.cluster import ROOT, Namespace

pytestmark = pytest.mark.cluster
CRD = ROOT / "charts" / "kubeseg" / "files" / "trainingjobs.yaml"


def test_the_model_answers_as_the_real_api_server(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace.cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    namespace.cluster.kubectl(
        "wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRD)
    )
    monkeypatch.setenv("KUBECONFIG", str(namespace.cluster.kubeconfig))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    connection = connect()

    async def real() -> list[str]:
        client = Client(connection.server, headers=connection.headers, tls=connection.tls)
        recorder = Recorder(client, namespace.name)
        async with client:
            for trace in TRACES:
                await trace(recorder)
        return recorder.lines

    assert asyncio.run(real()) == lines_of_the_model()
