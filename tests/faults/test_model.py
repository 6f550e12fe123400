"""The model alone: the traces that are compared with the real API server run on it, too."""

from __future__ import annotations

import asyncio
from random import Random
from typing import cast

import aiohttp

from kubeseg_operator.client import Client
from kubeseg_operator.clock import stamp
from tests.faults import virtual_time
from tests.faults.api_model import ApiModel
from tests.faults.conformance import TRACES
from tests.faults.controllers import Controllers
from tests.faults.network import Line, Traffic
from tests.faults.process import clock
from tests.faults.recorder import Recorder
from tests.faults.schedule import Schedule
from tests.faults.trainer import Cluster, Ended, Mishap


def lines_of_the_model() -> list[str]:
    """What the traces tell of the model."""

    async def live() -> list[str]:
        api = ApiModel(lambda: stamp(clock()))
        cluster = Cluster(Random(1))
        cluster.mishaps = {"well": (Mishap(0, Ended(0)),), "ill": (Mishap(0, Ended(3)),)}
        api.groups["batch"] = "v1"
        Controllers(api, cluster)
        schedule = Schedule("none", twin=0.0)
        traffic = Traffic(api, schedule, lambda *_: None, lambda _words: None)
        client = Client("http://model", headers=dict, tls=None)
        client._session = cast("aiohttp.ClientSession", Line(traffic, "trace", lambda: None))
        recorder = Recorder(client, "team")
        for trace in TRACES:
            await trace(recorder)
            await asyncio.sleep(5)
        return recorder.lines

    return virtual_time.run(live())


def test_the_traces_run_on_the_model() -> None:
    lines = lines_of_the_model()
    assert len(lines) > 40
    assert not [line for line in lines if line.endswith("never")]
