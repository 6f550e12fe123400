from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from starlette.requests import ClientDisconnect

from kubeseg_api.storage import datasets
from kubeseg_api.storage.incoming import INCOMING, incoming, recover
from tests.support.fake_kube import ALL_VERBS, FakeKube
from tests.support.run_folders import dataset_zip, make_zip, write_dataset

GOOD = {"images/a.jpg": b"i", "masks/a.png": b"m"}


def left_over(root: Path) -> list[Path]:
    """What is in the workspace beside locks and empty folders."""
    return [p for p in root.rglob("*") if p.is_file() and p.name != ".lock"]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (GOOD, GOOD),
        ({f"top/{k}": v for k, v in GOOD.items()}, GOOD),
        ({f"a/b/{k}": v for k, v in GOOD.items()}, GOOD),
        (GOOD | {"__MACOSX/images/._a.jpg": b"", "images/.DS_Store": b"", "Thumbs.db": b""}, GOOD),
        (GOOD | {"README.md": b"hi"}, GOOD | {"README.md": b"hi"}),
        ({f"{p}/{k}": v for p in ("train", "val") for k, v in GOOD.items()},) * 2,
        ({f"x/{p}/{k}": v for p in ("train", "val", "test") for k, v in GOOD.items()},
         {f"{p}/{k}": v for p in ("train", "val", "test") for k, v in GOOD.items()}),
    ],
)  # fmt: skip
async def test_a_good_archive_is_unpacked(
    client: httpx.AsyncClient, root: Path, entries: dict[str, bytes], expected: dict[str, bytes]
) -> None:
    reply = await client.put("/v1/datasets/shapes", content=make_zip(entries))
    assert reply.status_code == 201, reply.text
    folder = root / "datasets/shapes"
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in left_over(folder)}
    assert found == expected
    assert list((root / INCOMING).iterdir()) == []
    assert (await client.get("/v1/datasets/shapes")).json() == reply.json()


async def test_forms_are_taken_as_well(client: httpx.AsyncClient, root: Path) -> None:
    files = {"file": ("d.zip", dataset_zip(4), "application/zip")}
    reply = await client.post("/v1/datasets/ann/shapes", data={"note": "hi"}, files=files)
    assert (reply.status_code, reply.json()["images"]) == (201, 4)
    for content, said in ((b"--x\r\nrubbish", "form"), (b"--x--\r\n", "form has no file")):
        bad = await client.post(
            "/v1/datasets/other",
            content=content,
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        )
        assert (bad.status_code, said in bad.json()["detail"]) == (400, True), bad.text


async def test_data_sets_are_listed_shown_and_removed(
    client: httpx.AsyncClient, root: Path
) -> None:
    write_dataset(root, "ann/shapes", 2)
    write_dataset(root, "zoo/train", 2)
    write_dataset(root, "zoo/val", 1)
    items = (await client.get("/v1/datasets")).json()["items"]
    assert items == [
        {"name": "ann/shapes", "images": 2, "parts": {}},
        {"name": "zoo", "images": 3, "parts": {"train": 2, "val": 1}},
    ]
    assert (await client.get("/v1/datasets/ann/shapes")).json() == items[0]
    assert (await client.delete("/v1/datasets/ann/shapes")).status_code == 204
    assert (await client.delete("/v1/datasets/ann/shapes")).status_code == 404
    assert (await client.get("/v1/datasets/ann/shapes")).status_code == 404
    assert not (root / "datasets/ann").exists()
    assert len((await client.get("/v1/datasets")).json()["items"]) == 1


@pytest.mark.parametrize(
    ("there", "name", "kind"),
    [
        ("shapes", "shapes", "dataset-exists"),
        ("ann/shapes", "ann/shapes", "dataset-exists"),
        ("ann/shapes", "ann", "dataset-name-clash"),
        ("ann", "ann/shapes", "dataset-name-clash"),
    ],
)
async def test_names_that_are_taken(
    client: httpx.AsyncClient, root: Path, there: str, name: str, kind: str
) -> None:
    write_dataset(root, there, 5)
    reply = await client.put(f"/v1/datasets/{name}", content=dataset_zip(2))
    assert (reply.status_code, reply.json()["type"].rsplit("/", 1)[1]) == (409, kind)
    assert (await client.get(f"/v1/datasets/{there}")).json()["images"] == 5


@pytest.mark.parametrize("name", ["images", "ann/masks", "Train", "-x", ".x", "a b", "x" * 129])
async def test_bad_names_are_422(client: httpx.AsyncClient, name: str) -> None:
    for method in ("PUT", "GET", "DELETE"):
        reply = await client.request(method, f"/v1/datasets/{name}", content=dataset_zip())
        assert (reply.status_code, reply.json()["type"][-12:]) == (422, "dataset-name"), reply.text


def job(name: str, dataset: str, phase: str) -> dict[str, object]:
    return {
        "metadata": {"name": name, "uid": name},
        "spec": {"dataset": {"name": dataset}},
        "status": {"phase": phase},
    }


async def test_a_data_set_in_use_is_neither_replaced_nor_removed(
    client: httpx.AsyncClient, kube: FakeKube, root: Path
) -> None:
    write_dataset(root, "streets", 2)
    for n in range(600):  # more than a page
        kube.jobs[f"a{n}"] = job(f"a{n}", "streets", "Succeeded")
    kube.jobs["z"] = job("z", "streets", "Running")
    kube.jobs["y"] = job("y", "streets", "Suspended")
    kube.jobs["x"] = job("x", "other", "Running")
    for method, path in (
        ("DELETE", "/v1/datasets/streets"),
        ("PUT", "/v1/datasets/streets?replace=true"),
    ):
        reply = await client.request(method, path, content=dataset_zip(4))
        body = reply.json()
        assert (reply.status_code, body["title"]) == (409, "The data set is in use")
        assert body["jobs"] == ["y", "z"]
        assert '"streets" is read by 2 unfinished jobs: y, z' in body["detail"]
    del kube.jobs["z"], kube.jobs["y"]
    reply = await client.put("/v1/datasets/streets?replace=true", content=dataset_zip(4))
    assert (reply.status_code, reply.json()["images"]) == (200, 4)
    assert list((root / INCOMING).iterdir()) == []


async def test_rights_on_data_sets(client: httpx.AsyncClient, kube: FakeKube, root: Path) -> None:
    write_dataset(root, "shapes")
    calls = {"list": ("GET", ""), "get": ("GET", "/shapes"), "create": ("PUT", "/new"),
             "delete": ("DELETE", "/shapes")}  # fmt: skip
    for verb, (method, path) in calls.items():
        kube.tokens["some"] = {"datasets": ALL_VERBS - {verb}, "trainingjobs": ALL_VERBS}
        client.headers["Authorization"] = "Bearer some"
        reply = await client.request(method, f"/v1/datasets{path}", content=dataset_zip())
        assert reply.status_code == 403
        assert f"may not {verb} datasets.kubeseg.dev" in reply.json()["detail"]
        client.headers["Authorization"] = "Bearer expired"
        reply = await client.request(method, f"/v1/datasets{path}", content=dataset_zip())
        assert reply.status_code == 401
        assert reply.headers["content-type"] == "application/problem+json"


async def test_an_upload_that_breaks_off_leaves_nothing(
    client: httpx.AsyncClient, root: Path
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield dataset_zip()[:50]
        assert list((root / INCOMING).iterdir()), "it is being written"
        raise ClientDisconnect

    reply = await client.put("/v1/datasets/shapes", content=body())
    assert (reply.status_code, reply.json()["type"][-17:]) == (400, "upload-incomplete")
    assert left_over(root) == []


async def test_an_upload_that_stands_still_is_ended(
    client: httpx.AsyncClient, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubeseg_api.services.datasets.IDLE_SECONDS", 0.05)

    async def body() -> AsyncIterator[bytes]:
        yield dataset_zip()[:50]
        await asyncio.Event().wait()

    reply = await client.put("/v1/datasets/shapes", content=body())
    assert (reply.status_code, reply.json()["type"][-17:]) == (408, "upload-incomplete")
    assert left_over(root) == []


async def test_of_many_uploads_at_once_one_wins(client: httpx.AsyncClient, root: Path) -> None:
    replies = await asyncio.gather(
        *(client.put("/v1/datasets/shapes", content=dataset_zip(n)) for n in range(1, 9))
    )
    codes = [reply.status_code for reply in replies]
    assert sorted(codes) == [201] + [409] * 7
    winner = codes.index(201) + 1
    assert len(list((root / "datasets/shapes/images").iterdir())) == winner
    assert list((root / INCOMING).iterdir()) == []


async def test_a_full_workspace_is_told_with_numbers(
    client: httpx.AsyncClient, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = SimpleNamespace(f_bavail=1, f_frsize=512)
    monkeypatch.setattr("kubeseg_api.services.datasets.os.statvfs", lambda _: full)
    large = make_zip({"images/a.jpg": os.urandom(2000), "masks/a.png": b""})
    small = make_zip({"images/a.jpg": bytes(2000), "masks/a.png": b"m"})
    assert len(small) <= 512
    for content, needed in ((large, len(large)), (small, 2001)):
        reply = await client.put("/v1/datasets/a", content=content)
        body = reply.json()
        assert (reply.status_code, body["freeBytes"], body["neededBytes"]) == (507, 512, needed)
    assert left_over(root) == []


def test_a_replacement_that_was_killed_half_way_is_put_back(root: Path) -> None:
    write_dataset(root, "ann/shapes", 3)
    with incoming(root) as place:
        place.take_away(root / "datasets/ann/shapes")
        assert not datasets.exists(root, "ann/shapes")
        assert recover(root) == 0, "its process lives"
        # As a kill leaves it: same folder, nobody holds its lock.
        place.folder.rename(root / INCOMING / "dead")
        (root / INCOMING / "dead/lock").unlink()
        (root / INCOMING / "dead/lock").touch()
        place.folder.mkdir()
    assert recover(root) == 1
    assert datasets.info(root, "ann/shapes") == datasets.Info("ann/shapes", {"": 3})
    assert list((root / INCOMING).iterdir()) == []
