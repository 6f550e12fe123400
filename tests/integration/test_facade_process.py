"""The facade as a process of its own: signals, kills, a full disk, callers who hang up."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.facade import Facade, start_facade
from tests.support.fake_kube import FakeKube
from tests.support.run_folders import dataset_zip, make_zip, write_dataset, write_run

ADMIN = {"Authorization": "Bearer admin"}
STUDY: dict[str, Any] = {
    "User": "ann", "FileName": "shapes", "Epochs": 5, "LR": 0.01, "ImgSize": 112, "BatchSize": 1,
    "Model": "PAN", "TestSize": 0.5,
}  # fmt: skip


Start = Callable[..., Awaitable[Facade]]


@pytest.fixture
async def kube() -> AsyncIterator[FakeKube]:
    fake = FakeKube()
    await fake.server.start_server()
    yield fake
    await fake.server.close()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def start(kube: FakeKube, workspace: Path, tmp_path: Path) -> Iterator[Start]:
    config = tmp_path / "kubeconfig"

    async def start(prefix: tuple[str, ...] = (), **environment: str) -> Facade:
        config.write_text(
            "current-context: c\n"
            "contexts: [{name: c, context: {cluster: k, namespace: team}}]\n"
            f"clusters: [{{name: k, cluster: {{server: '{kube.url}'}}}}]\n"
        )
        return await start_facade(config, workspace, running, prefix, **environment)

    running: list[Facade] = []
    yield start
    for facade in running:
        facade.end()


async def test_every_answer_is_the_same_after_a_kill(
    start: Start, kube: FakeKube, workspace: Path
) -> None:
    write_dataset(workspace, "ann/shapes")
    facade = await start()
    async with httpx.AsyncClient(base_url=facade.url, headers=ADMIN) as client:
        for _ in range(2):
            assert (await client.post("/study", params=STUDY)).status_code == 200
        await client.delete("/modeles", params={"ModelName": "FPN"})
    [first, second] = sorted(kube.jobs)
    paths = write_run(workspace, first, str(kube.jobs[first]["metadata"]["uid"]), 3)
    write_run(workspace, second, str(kube.jobs[second]["metadata"]["uid"]), 1)
    calls = [
        ("GET", "/modeles"), ("GET", "/study?ModelName=ann-1"), ("GET", "/study?ModelName=ann-2"),
        ("GET", "/checkstudy?ModelName=ann-1&Epoch=2"), ("GET", "/study?ModelName=ann-3"),
        ("GET", "/v1/datasets"), ("GET", "/v1/jobs"), ("GET", f"/v1/files/{paths[0]}"),
        ("PUT", "/study?ModelName=ann-1&Epochs=5"),
    ]  # fmt: skip

    async def answers(url: str) -> list[object]:
        async with httpx.AsyncClient(base_url=url, headers=ADMIN) as client:
            replies = [await client.request(method, path) for method, path in calls]
        found: list[object] = []
        for reply in replies:
            json = reply.headers["content-type"] == "application/json"
            body = reply.json() if json else reply.content
            if isinstance(body, dict):
                body.pop("AnswerDate", None)
            found.append((reply.status_code, body))
        return found

    before = await answers(facade.url)
    assert facade.stop(signal.SIGKILL) == -signal.SIGKILL
    again = await start()
    other = await start()
    assert await answers(again.url) == before
    assert await answers(other.url) == before
    async with httpx.AsyncClient(base_url=other.url, headers=ADMIN) as client:
        assert (await client.post("/study", params=STUDY)).json()["ModelName"] == "ann-3"


def begin_upload(facade: Facade, name: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", facade.port))
    body = dataset_zip()
    connection.sendall(
        f"PUT /v1/datasets/{name} HTTP/1.1\r\nHost: f\r\nAuthorization: Bearer admin\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body[:100]
    )
    return connection


async def until(condition: Callable[[], bool], what: str, deadline: float = 20) -> None:
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {deadline} s"
        await asyncio.sleep(0.05)


def incoming(workspace: Path) -> list[Path]:
    folder = workspace / "datasets/.incoming"
    return list(folder.iterdir()) if folder.is_dir() else []


async def test_a_half_upload_leaves_nothing_whoever_dies(start: Start, workspace: Path) -> None:
    facade = await start()
    with begin_upload(facade, "half"):
        await until(lambda: bool(incoming(workspace)), "the upload begins")
    await until(lambda: not incoming(workspace), "cleaned up after the caller hung up")

    with begin_upload(facade, "half"):
        await until(lambda: bool(incoming(workspace)), "the upload begins")
        replica = await start()
        assert incoming(workspace), "the upload lives: another replica's start leaves it alone"
        facade.stop(signal.SIGKILL)
    assert incoming(workspace)
    replica.stop()
    await start()
    assert incoming(workspace) == []
    assert not (workspace / "datasets/half").exists()


async def test_sigterm_lets_a_request_end_and_leaves_with_0(start: Start, workspace: Path) -> None:
    facade = await start()
    body = dataset_zip()
    with begin_upload(facade, "late") as connection:
        await until(lambda: bool(incoming(workspace)), "the upload begins")
        facade.process.send_signal(signal.SIGTERM)
        connection.sendall(body[100:])
        assert b"201 Created" in connection.recv(4096)
    assert facade.process.wait(30) == 0
    assert (workspace / "datasets/late/images").is_dir()


async def test_metrics_name_routes_and_not_paths(start: Start) -> None:
    facade = await start()
    async with httpx.AsyncClient(headers=ADMIN) as client:
        await client.get(f"{facade.url}/v1/files/runs/a/b/c")
        await client.get(f"{facade.url}/no/such/route")
        text = (await client.get(f"http://127.0.0.1:{facade.metrics_port}/metrics")).text
    assert 'kubeseg_api_requests_total{code="404",method="GET",route="/v1/files/{path}"} 1.0' in (
        text.replace("{path:path}", "{path}")
    )
    assert 'kubeseg_api_requests_total{code="404",method="any",route="unknown"} 1.0' in text
    assert "runs/a" not in text


def group_writable(folder: Path) -> dict[Path, bool]:
    return {path: bool(path.stat().st_mode & 0o020) for path in folder.rglob("*")}


async def test_what_is_made_is_writable_for_the_group(start: Start, workspace: Path) -> None:
    facade = await start()
    async with httpx.AsyncClient(base_url=facade.url, headers=ADMIN) as client:
        await client.put("/v1/datasets/ann/shapes", content=dataset_zip())
        await client.post("/study", params=STUDY)
        await client.delete("/modeles", params={"ModelName": "FPN"})
    modes = group_writable(workspace)
    assert len(modes) > 12
    assert all(modes.values()), modes


def namespaced(workspace: Path) -> tuple[str, ...]:
    """A command that gives a process a tiny disk as workspace, where this machine allows it."""
    unshare = ["unshare", "--mount"]
    if os.geteuid() != 0:
        unshare += ["--user", "--map-root-user"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine allows no mount namespaces")
    mount = f'mount -t tmpfs -o size=1m tmpfs "{workspace}" && exec "$0" "$@"'
    return (*unshare, "sh", "-c", mount)


async def test_a_full_disk_is_507_and_loses_nothing(start: Start, workspace: Path) -> None:
    facade = await start(namespaced(workspace))
    noise = os.urandom(300_000)
    async with httpx.AsyncClient(base_url=facade.url, headers=ADMIN) as client:
        kept = await client.put("/v1/datasets/kept", content=dataset_zip(1))
        assert kept.status_code == 201
        large = make_zip({f"{d}/{n}.png": noise for d in ("images", "masks") for n in range(2)})
        told = await client.put("/v1/datasets/large", content=large)
        assert (told.status_code, told.json()["neededBytes"]) == (507, len(large))

        async def unannounced() -> AsyncIterator[bytes]:
            yield large

        replies = [
            await client.put("/v1/datasets/half", content=unannounced()),
            # What comes in fits, what is in it does not.
            await client.put("/v1/datasets/half", content=make_zip(
                {"images/a.png": bytes(1 << 20), "masks/a.png": noise}
            )),
        ]  # fmt: skip
        for reply in replies:
            assert reply.status_code == 507, reply.text
            assert 0 < reply.json()["freeBytes"] < 1 << 20
        names = [item["name"] for item in (await client.get("/v1/datasets")).json()["items"]]
        assert names == ["kept"]
        assert (await client.get("/readyz")).status_code == 200


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"KUBESEG_STUDY_TEMPLATE": '{"training": {"seed": -1}}'}, "KUBESEG_STUDY_TEMPLATE"),
        ({"KUBECONFIG": "/nowhere"}, "kubeconfig /nowhere can't be used"),
    ],
)
def test_a_wrong_environment_ends_the_start_with_a_sentence(
    environment: dict[str, str], said: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "kubeseg_api.main"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
