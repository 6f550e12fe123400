from __future__ import annotations

import asyncio
import os
import stat
import struct
import zipfile
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect

from kubeseg_api.storage import archive, datasets, layout
from kubeseg_api.storage.incoming import INCOMING, incoming, recover
from tests.support.fake_kube import ALL_VERBS, FakeKube
from tests.support.run_folders import dataset_zip, make_zip, write_dataset

GOOD = {"images/a.jpg": b"i", "masks/a.png": b"m"}


def left_over(root: Path) -> list[Path]:
    """What is in the workspace beside locks and empty folders."""
    return [p for p in root.rglob("*") if p.is_file() and p.name != ".lock"]


def with_entry(info: zipfile.ZipInfo, content: bytes = b"x") -> bytes:
    buffer = BytesIO(make_zip(GOOD))
    with zipfile.ZipFile(buffer, "a") as bundle:
        bundle.writestr(info, content)
    return buffer.getvalue()


def named(name: str) -> bytes:
    info = zipfile.ZipInfo("placeholder")
    info.filename = name  # as it is: the constructor would put it right
    return with_entry(info)


def of_kind(kind: int) -> bytes:
    info = zipfile.ZipInfo("images/special")
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    return with_entry(info, b"/etc/passwd")


def encrypted() -> bytes:
    data = bytearray(make_zip(GOOD))
    data[data.index(b"PK\x03\x04") + 6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def corrupt() -> bytes:
    data = bytearray(dataset_zip())
    at = data.index(b"images/001.jpg") + len("images/001.jpg")
    data[at] ^= 0xFF
    return bytes(data)


def compressed(method: int) -> bytes:
    info = zipfile.ZipInfo("images/b.jpg")
    info.compress_type = method
    return with_entry(info)


ATTACKS = {
    "not a zip": (b"GIF89a, honestly", 400, "not-a-zip", "not a ZIP archive"),
    "empty body": (b"", 400, "not-a-zip", "not a ZIP archive"),
    "cut off": (dataset_zip()[:-30], 400, "not-a-zip", "damaged"),
    "damaged": (corrupt(), 400, "not-a-zip", "damaged"),
    "dots": (named("../../evil"), 400, "unsafe-archive", "'..'"),
    "dots within": (named("images/../../evil"), 400, "unsafe-archive", "'..'"),
    "single dot": (named("images/./a"), 400, "unsafe-archive", "empty segment or '.'"),
    "absolute": (named("/etc/cron.d/evil"), 400, "unsafe-archive", "absolute"),
    "two slashes": (named("images//evil"), 400, "unsafe-archive", "empty segment"),
    "backslash": (named("..\\evil"), 400, "unsafe-archive", "backslash"),
    "drive": (named("C:evil"), 400, "unsafe-archive", "drive letter"),
    "newline": (named("images/a\nb"), 400, "unsafe-archive", "control characters"),
    "nul": (named("images/a\0.jpg"), 400, "unsafe-archive", "control characters"),
    "device": (named("images/NUL.jpg"), 400, "unsafe-archive", "device"),
    "deep": (named("/".join("abcdefghij")), 400, "unsafe-archive", "10 folders deep"),
    "long": (named("images/" + "x" * 256), 400, "unsafe-archive", "too long"),
    "symlink": (of_kind(stat.S_IFLNK), 400, "unsafe-archive", "symbolic link"),
    "fifo": (of_kind(stat.S_IFIFO), 400, "unsafe-archive", "special file"),
    "device node": (of_kind(stat.S_IFCHR), 400, "unsafe-archive", "special file"),
    "encrypted": (encrypted(), 400, "unsafe-archive", "encrypted"),
    "bzip2": (compressed(zipfile.ZIP_BZIP2), 400, "unsafe-archive", "deflate"),
    "lzma": (compressed(zipfile.ZIP_LZMA), 400, "unsafe-archive", "deflate"),
    "file and folder": (named("images/a.jpg/b"), 400, "unsafe-archive", "a file and a folder"),
    "bomb": (
        make_zip(GOOD | {"images/b.png": bytes(3 << 20), "masks/b.png": b""}),
        413, "too-large", "1048576 bytes",
    ),
    "too big": (os.urandom((1 << 20) + 1), 413, "too-large", "1048576 bytes"),
    "no masks": (make_zip({"images/a.jpg": b"i"}), 422, "dataset-layout", "masks/ has 0"),
    "no folders": (make_zip({"a.jpg": b"i", "b.jpg": b"i"}), 422, "dataset-layout", "'a.jpg'"),
    "nothing": (make_zip({}), 422, "dataset-layout", "nothing"),
    "train alone": (
        make_zip({f"train/{k}": v for k, v in GOOD.items()}),
        422, "dataset-layout", "train/ and val/",
    ),
    "unpaired": (
        make_zip(GOOD | {f"images/x{n}.jpg": b"" for n in range(7)}),
        422, "dataset-layout", "7 of 8 images in images/ have no mask",
    ),
    "same stem": (
        make_zip(GOOD | {"images/a.png": b"i"}), 422, "dataset-layout", "same stem: 'a'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_bad_archive_is_refused_and_leaves_nothing(
    client: httpx.AsyncClient, root: Path, tmp_path: Path, attack: str
) -> None:
    content, code, kind, said = ATTACKS[attack]
    reply = await client.put("/v1/datasets/ann/shapes", content=content)
    body = reply.json()
    assert (reply.status_code, body["status"]) == (code, code), body
    assert reply.headers["content-type"] == "application/problem+json"
    assert body["type"] == f"https://kubeseg.dev/problems/{kind}"
    assert said in body["detail"]
    assert left_over(tmp_path) == []
    assert not (root / "datasets/ann").exists()


def test_a_duplicate_entry_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z", "w") as bundle:
        bundle.writestr("images/a.jpg", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            bundle.writestr("images/a.jpg", b"2")
    with pytest.raises(archive.UnsafeArchiveError, match="twice"):
        archive.unpack(tmp_path / "z", tmp_path / "o", archive.Limits(100, 100), lambda *_: None)


def test_a_directory_that_would_not_fit_into_memory_is_refused(tmp_path: Path) -> None:
    size = archive.MAX_DIRECTORY_BYTES + 1
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, size, 0, 0)
    with (tmp_path / "z").open("wb") as file:
        file.truncate(size)  # a hole: takes no room
        file.seek(size)
        file.write(end)
    with pytest.raises(archive.TooLargeError, match="directory takes 67108865 bytes"):
        archive.unpack(tmp_path / "z", tmp_path / "o", archive.Limits(100, 100), lambda *_: None)


@given(st.text(alphabet="./\\a:\0\n é", min_size=1, max_size=12))
@example("....")
@example("a/...")
def test_no_name_that_is_let_through_leads_out(name: str) -> None:
    if archive.path_error(name) is None:
        base = Path("/workspace/unpacked")
        assert Path(os.path.normpath(base / name)).is_relative_to(base)
        assert not name.startswith("/")


def test_too_many_entries_are_refused() -> None:
    entries = [zipfile.ZipInfo(f"images/{n}") for n in range(5)]
    with pytest.raises(archive.TooLargeError, match="5 entries, the limit is 4"):
        archive.plan(entries, archive.Limits(100, 4))


def test_a_bomb_is_stopped_by_its_ratio_before_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "RATIO_FREE_BYTES", 1 << 20)
    file = tmp_path / "z"
    file.write_bytes(make_zip({"images/a": bytes(100 << 20)}))
    with pytest.raises(archive.UnsafeArchiveError, match="200 times"):
        archive.unpack(file, tmp_path / "out", archive.Limits(1 << 40, 10), lambda *_: None)
    assert sum(f.stat().st_size for f in (tmp_path / "out").rglob("*")) < 64 << 20


def test_sizes_are_counted_and_not_believed(tmp_path: Path) -> None:
    data = bytearray(make_zip({"images/a": bytes(1 << 20)}))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(signature) + offset, 10)
    file = tmp_path / "z"
    file.write_bytes(data)
    with pytest.raises(archive.NotAnArchiveError):  # only the 10 bytes come out: CRC is wrong
        archive.unpack(file, tmp_path / "out", archive.Limits(1000, 10), lambda *_: None)
    assert (tmp_path / "out/images/a").stat().st_size <= 1000


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


def test_images_and_masks_are_those_of_the_trainer() -> None:
    from kubeseg_trainer.tasks.segmentation import images

    assert layout.IMAGE_SUFFIXES == images.IMAGE_SUFFIXES
    assert layout.MASK_SUFFIXES == images.MASK_SUFFIXES


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        (["images/a.jpg", "masks/a.png"], {"": (["a"], ["a"])}),
        (["images/a.JPG", "images/notes.txt", "masks/a.jpg"], {"": (["a"], [])}),
        (["train/images/a.jpg", "val/masks/b.png"], {"train": (["a"], []), "val": ([], ["b"])}),
        (["images/a.b.jpg", "images/s/c.jpg", "x/y/images/z.png"], {"": (["a.b"], [])}),
        (["images", "notes.txt"], {}),
    ],
)
def test_parts_of_a_listing(
    files: list[str], parts: dict[str, tuple[list[str], list[str]]]
) -> None:
    assert layout.parts_of(files) == {k: layout.Part(*v) for k, v in parts.items()}
