"""Many scrapes at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable

import httpx
import pytest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from kubeseg_operator import probes
from kubeseg_operator.probes import Servers
from tests.support.operator_process import free_port

OPEN = "application/openmetrics-text"


class Slow(Collector):
    """Takes until it is let go; knows how many have it at once."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.began = self.most = self._now = 0

    def describe(self) -> Iterable[Metric]:
        """Not collected to be registered."""
        return []

    def collect(self) -> Iterable[Metric]:
        """One number: how many came before."""
        self.began += 1
        self._now += 1
        self.most = max(self.most, self._now)
        assert self.go.wait(20)
        self._now -= 1
        yield GaugeMetricFamily("slow", "it is", value=self.began)


class Asked:
    """Counts the requests that have arrived."""

    def __init__(self, wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.all = wanted, asyncio.Event()
        monkeypatch.setattr(probes, "choose_encoder", self.choose)

    def choose(self, accepted: str) -> object:
        """As prometheus_client's."""
        self.left -= 1
        if self.left == 0:
            self.all.set()
        return choose_encoder(accepted)


@pytest.fixture
async def slow() -> AsyncIterator[tuple[Slow, Servers, str]]:
    played, registry, port = Slow(), CollectorRegistry(), free_port()
    registry.register(played)
    servers = Servers(
        "127.0.0.1",
        ill=lambda: None,
        ready=lambda: (True, ""),
        registry=registry,
        probes_port=free_port(),
        metrics_port=port,
    )
    yield played, servers, f"http://127.0.0.1:{port}/metrics"
    played.go.set()


async def test_who_comes_meanwhile_gets_the_answer_that_is_being_made(
    slow: tuple[Slow, Servers, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    played, servers, url = slow
    async with servers, httpx.AsyncClient(timeout=20) as client:
        asked = Asked(20, monkeypatch)
        answers = [asyncio.ensure_future(client.get(url)) for _ in range(20)]
        async with asyncio.timeout(20):
            await asked.all.wait()
        played.go.set()
        texts = {(await answer).text for answer in answers}
        assert (played.began, len(texts)) == (1, 1)
        assert (await client.get(url)).text not in texts  # and the next one gets news
        assert not servers._making


async def test_one_is_made_at_a_time_whatever_is_asked_for(
    slow: tuple[Slow, Servers, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    played, servers, url = slow
    kinds = ["*/*", OPEN, *(f"{OPEN};version=1.0.{n}" for n in range(8)), f"{OPEN};version=x"]
    async with servers, httpx.AsyncClient(timeout=20) as client:
        asked = Asked(len(kinds), monkeypatch)
        answers = [
            asyncio.ensure_future(client.get(url, headers={"Accept": kind})) for kind in kinds
        ]
        async with asyncio.timeout(20):
            await asked.all.wait()
        played.go.set()
        told = [await answer for answer in answers]
    assert {answer.status_code for answer in told} == {200}
    assert told[0].headers["Content-Type"].startswith("text/plain")
    assert {answer.headers["Content-Type"].split(";")[0] for answer in told[1:]} == {OPEN}
    assert (played.began, played.most) == (2, 1)


async def test_an_answer_that_is_being_made_does_not_outlive_the_servers(
    slow: tuple[Slow, Servers, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, servers, url = slow
    async with httpx.AsyncClient(timeout=20) as client:
        async with servers:
            asked = Asked(1, monkeypatch)
            answer = asyncio.ensure_future(client.get(url))
            async with asyncio.timeout(20):
                await asked.all.wait()
        assert not servers._making
        with pytest.raises(httpx.HTTPError):
            await answer
