from __future__ import annotations

import os
import stat
import struct
import zipfile
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kubeseg_api.errors import TooLargeError
from kubeseg_api.storage import archive, layout
from tests.support.run_folders import dataset_zip, make_zip

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
    with pytest.raises(TooLargeError, match="directory takes 67108865 bytes"):
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
    with pytest.raises(TooLargeError, match="5 entries, the limit is 4"):
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


def test_images_and_masks_are_those_of_the_trainer() -> None:
    from kubeseg_trainer.tasks.segmentation.data import images, masks

    assert layout.IMAGE_SUFFIXES == images.IMAGE_SUFFIXES
    assert layout.MASK_SUFFIXES == masks.MASK_SUFFIXES


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
