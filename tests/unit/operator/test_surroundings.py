"""What is read around a job that can't start: seldom, and only where it may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from kubeseg_operator.client import ApiError
from kubeseg_operator.surroundings import CLAIM_LIFE, NODES_LIFE, REFUSED_LIFE, Surroundings

NODE: dict[str, Any] = {
    "metadata": {"name": "a"},
    "status": {"allocatable": {"nvidia.com/gpu": "4"}, "images": 1},
}
GPU = {"resources": {"requests": {"nvidia.com/gpu": "1", "cpu": "2"}}}
PODS: list[dict[str, Any]] = [
    {"spec": {"nodeName": "a", "containers": [GPU, {}]}},
    {"spec": {"nodeName": "a", "containers": [GPU, GPU]}},
    {"spec": {"containers": [GPU]}},  # waits itself
]


@dataclass
class Api:
    """Answers reads; `refused` names the paths that may not be read."""

    refused: dict[str, int] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    now: float = 0.0

    def _read(self, path: str) -> None:
        self.reads.append(path)
        for part, code in self.refused.items():
            if part in path:
                raise ApiError(code, "No", "no", "GET", path)

    async def get(self, path: str) -> dict[str, Any]:
        self._read(path)
        return {"metadata": {"name": "claim"}}

    async def list(self, path: str, **_query: str) -> AsyncIterator[dict[str, Any]]:
        self._read(path)
        for each in [NODE] if path.endswith("nodes") else PODS:
            yield each

    def around(self) -> Surroundings:
        return Surroundings(self, clock=lambda: self.now)  # type: ignore[arg-type]


async def test_nodes_are_told_with_what_is_held_of_them() -> None:
    (node,) = await Api().around().nodes()
    assert node["held"] == {"nvidia.com/gpu": 3}
    assert node["status"] == {"allocatable": {"nvidia.com/gpu": "4"}, "conditions": None}


async def test_pods_that_may_not_be_seen_leave_free_gpus_unknown() -> None:
    (node,) = await Api(refused={"pods": 403}).around().nodes()
    assert "held" not in node


@pytest.mark.parametrize(("refused", "life"), [({}, NODES_LIFE), ({"nodes": 403}, REFUSED_LIFE)])
async def test_nodes_are_read_once_for_all_jobs(refused: dict[str, int], life: float) -> None:
    api = Api(refused=refused)
    around = api.around()
    first = await around.nodes()
    assert bool(first) is not bool(refused)
    reads = len(api.reads)
    api.now = life - 1
    assert await around.nodes() == first
    assert len(api.reads) == reads
    api.now = life + 1
    await around.nodes()
    assert len(api.reads) == 2 * reads


@pytest.mark.parametrize("code", [403, 404])
async def test_a_claim_that_is_not_there_or_not_ours_to_read_is_no_error(code: int) -> None:
    assert await Api(refused={"claims": code}).around().claim("team", "claim") == ()


async def test_a_claim_is_remembered_for_some_seconds() -> None:
    api = Api()
    around = api.around()
    for moment, reads in ((0.0, 1), (CLAIM_LIFE - 1, 1), (CLAIM_LIFE + 1, 2)):
        api.now = moment
        assert len(await around.claim("team", "claim")) == 1
        assert len(api.reads) == reads


async def test_a_server_in_trouble_is_asked_again() -> None:
    with pytest.raises(ApiError):
        await Api(refused={"nodes": 500}).around().nodes()


async def test_who_asks_while_somebody_looks_waits_for_nobody() -> None:
    """A look at thousands of nodes and pods must not hold up all that ask."""
    api = Api()
    around = api.around()
    first = await around.nodes()
    api.now += 2 * NODES_LIFE
    going = asyncio.Event()
    real = api.list

    async def slow(path: str, **query: str) -> AsyncIterator[dict[str, Any]]:
        await going.wait()
        async for each in real(path, **query):
            yield each

    api.list = slow  # type: ignore[method-assign]
    looking = asyncio.create_task(around.nodes())
    await asyncio.sleep(0)
    assert await around.nodes() == first
    going.set()
    assert await looking == first
