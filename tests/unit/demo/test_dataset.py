"""The user's folder: what is taken, what is refused and in which words."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from kubeseg_local.demo.dataset import pack, read_folder, slug
from kubeseg_local.demo.failure import DemoError


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def pairs(count: int, prefix: str = "") -> list[str]:
    return [
        name
        for number in range(count)
        for name in (f"{prefix}images/{number:02d}.jpg", f"{prefix}masks/{number:02d}.png")
    ]


def test_one_of_many_images_is_held_back_from_the_upload(tmp_path: Path) -> None:
    found = read_folder(make(tmp_path, *pairs(12)))
    assert found.images == 11
    assert found.held_back.image.name == "11.jpg"
    assert found.held_back not in found.parts[""]


def test_of_few_images_all_are_uploaded(tmp_path: Path) -> None:
    found = read_folder(make(tmp_path, *pairs(4)))
    assert found.images == 4


def test_a_split_is_kept_and_the_picture_is_of_val(tmp_path: Path) -> None:
    found = read_folder(make(tmp_path, *pairs(3, "train/"), *pairs(2, "val/")))
    assert {part: len(pairs_) for part, pairs_ in found.parts.items()} == {"train": 3, "val": 2}
    assert found.held_back in found.parts["val"]


def test_files_that_are_no_images_are_left_out(tmp_path: Path) -> None:
    folder = make(tmp_path, *pairs(2), "images/notes.txt", "images/.DS_Store", "masks/Thumbs.db")
    assert read_folder(folder).images == 2


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["pictures/a.jpg"], "must hold images/ and masks/, or train/ and val/"),
        (pairs(2, "train/"), "there is: train"),
        (["images/a.jpg", "masks/b.png"], "1 of 1 images have no mask of the same name"),
        (["images/a.txt", "masks/a.png"], "no images"),
        (["images/a.jpg", "images/a.png", "masks/a.png"], "have the same stem: rename one"),
        (pairs(1), "at least 2 are needed"),
        ([*pairs(2), *(f"images/x{n}.jpg" for n in range(7))], "(+2 more)"),
    ],
)
def test_refusals_say_what_is_wrong(tmp_path: Path, names: list[str], words: str) -> None:
    with pytest.raises(DemoError) as error:
        read_folder(make(tmp_path, *names))
    assert words in str(error.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="no such folder"):
        read_folder(tmp_path / "nothing")


def test_the_archive_is_the_same_bytes_each_time_and_holds_all_pairs(tmp_path: Path) -> None:
    found = read_folder(make(tmp_path / "data", *pairs(3, "train/"), *pairs(2, "val/")))
    first = pack(found.parts, tmp_path / "a.zip")
    (tmp_path / "data/train/images/00.jpg").touch()
    assert pack(found.parts, tmp_path / "b.zip") == first
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert sorted(archive.namelist()) == sorted([*pairs(3, "train/"), *pairs(2, "val/")])
        assert archive.read("val/masks/01.png") == b"val/masks/01.png"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("camvid", "camvid"),
        ("My Pictures (2)", "my-pictures-2"),
        ("---", "my-data"),
        ("train", "my-data"),
        ("x" * 80, "x" * 52),
        ("a" * 51 + "_b", "a" * 51),
    ],
)
def test_slug(name: str, expected: str) -> None:
    assert slug(name) == expected
