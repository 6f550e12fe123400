from __future__ import annotations

import fcntl
import logging
import multiprocessing
import os
import pickle
import resource
import signal
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest

from kubeseg_trainer.engine.task import SampleKey
from kubeseg_trainer.errors import InterruptionError
from kubeseg_trainer.files import TEMPORARY
from kubeseg_trainer.tasks.segmentation.data import cache
from kubeseg_trainer.tasks.segmentation.data.augment import Augmentation, transforms_of
from kubeseg_trainer.tasks.segmentation.data.cache import cache_folder, make_room, open_cache
from kubeseg_trainer.tasks.segmentation.data.dataset import Pair
from kubeseg_trainer.tasks.segmentation.data.reading import Decoding
from kubeseg_trainer.tasks.segmentation.data.samples import ImageSamples
from kubeseg_trainer.tasks.segmentation.data.sources import Decoded, Files
from tests.support.datasets import make_dataset

KEY = "key"
SPAWN = multiprocessing.get_context("forkserver")
# Imported once, not by each process.
SPAWN.set_forkserver_preload(["kubeseg_trainer.tasks.segmentation.data.cache"])
#: Tests with processes of their own: both kinds of file are made by the same code.
one_kind = pytest.mark.parametrize("files", [32], indirect=True)


def _nothing(*_: object) -> None:
    """Nobody looks."""


def make(folder: Path, files: Files, key: str = KEY) -> Decoded | None:
    """Open the cache, made first where it isn't there."""
    return open_cache(folder, files, key, progress=_nothing, check=_nothing)


@pytest.fixture(params=[32, None], ids=["resized", "own size"])
def files(tmp_path: Path, request: pytest.FixtureRequest) -> Files:
    """Seven pairs."""
    root = make_dataset(tmp_path, count=7)
    stems = sorted(path.stem for path in (root / "images").iterdir())
    pairs = [Pair(s, root / f"images/{s}.png", root / f"masks/{s}.png") for s in stems]
    return Files(pairs, Decoding(), request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where caches go."""
    result = tmp_path / "decoded"
    result.mkdir()
    return result


def same(decoded: Decoded, files: Files) -> bool:
    """Whether both give the same arrays."""
    return all(
        a.dtype == b.dtype and np.array_equal(a, b)
        for index in range(len(files))
        for a, b in zip(decoded.read(index), files.read(index), strict=True)
    )


def without_decoding(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on nothing is decoded any more."""

    def read(_: Files, index: int) -> None:
        raise AssertionError(f"{index} is decoded")

    monkeypatch.setattr(Files, "read", read)


def test_what_is_cached_is_what_is_decoded(folder: Path, files: Files) -> None:
    decoded = make(folder, files)
    assert decoded is not None
    assert same(decoded, files)
    image, mask = decoded.read(0)
    assert not image.flags.writeable
    assert not mask.flags.writeable
    assert [path.name for path in folder.iterdir()] == [f"{KEY}.cache"]


def test_it_is_made_once(folder: Path, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(folder, files)
    assert first is not None
    arrays = [first.read(i)[0].copy() for i in range(len(files))]
    without_decoding(files, monkeypatch)
    again = make(folder, files)
    assert again is not None
    # As the loader's processes get it: each opens the file for itself.
    elsewhere: Decoded = pickle.loads(pickle.dumps(again))
    assert len(pickle.dumps(again)) < 10_000
    for decoded in (again, elsewhere):
        assert all(np.array_equal(decoded.read(i)[0], arrays[i]) for i in range(len(files)))


def test_16_bits_and_other_channels(
    folder: Path, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    wide = Files(files.pairs, Decoding(channels=5), files.side, bits=16)

    def read_pair(pair: Pair, decoding: Decoding) -> tuple[np.ndarray, np.ndarray]:
        number = int(pair.stem)
        kind = np.uint16 if number % 2 else np.uint8
        full = np.iinfo(kind).max
        pixels = np.full((40, 48, decoding.channels), full, kind)
        return pixels, random.integers(0, 3, (40, 48)).astype(np.uint8)

    monkeypatch.setattr("kubeseg_trainer.tasks.segmentation.data.sources.read_pair", read_pair)
    decoded = make(folder, wide)
    assert decoded is not None
    for index in range(len(wide)):
        image, mask = decoded.read(index)
        # White is white in both kinds of file.
        assert image.dtype == np.uint16
        assert image.min() == 65535
        assert image.shape == (*mask.shape, 5)


@pytest.mark.parametrize("channels", [1, 3, 4, 5, 16])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("side", [32, 96])
def test_any_number_of_channels_is_resized(
    channels: int, kind: type, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "kubeseg_trainer.tasks.segmentation.data.sources.read_pair",
        lambda *_: (np.full((40, 48, channels), 7, kind), np.zeros((40, 48), np.uint8)),
    )
    files = Files([Pair("a", Path("a"), Path("a"))], Decoding(channels=channels), side)
    image, mask = files.read(0)
    assert (image.shape, mask.shape) == ((side, side, channels), (side, side))
    assert image.dtype == kind
    assert image.min() == image.max() == 7


def test_the_key_follows_what_the_arrays_depend_on(files: Files) -> None:
    other_size = Files(files.pairs, files.decoding, 64)
    other_bits = Files(files.pairs, files.decoding, files.side, 16)
    other_void = Files(files.pairs, Decoding(ignore_index=1), files.side)
    keys = {f.key("c") for f in (files, other_size, other_bits, other_void)} | {files.key("d")}
    assert len(keys) == 5


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (_truncate, "bytes, not"),
        (lambda path: path.write_bytes(b""), "only 0 bytes"),
        (lambda path: path.write_bytes(b"\0" * path.stat().st_size), "begin as a cache"),
        (lambda path: _flip(path, 20), "it has"),
        (lambda path: _flip(path, 40), "checksum"),
        (lambda path: _flip(path, 4096 + 9), "checksum"),
    ],
)
def test_a_damaged_file_is_made_again(
    folder: Path,
    files: Files,
    caplog: pytest.LogCaptureFixture,
    damage: object,
    word: str,
) -> None:
    assert make(folder, files) is not None
    assert callable(damage)
    damage(folder / f"{KEY}.cache")
    again = make(folder, files)
    assert "is made again" in caplog.text
    assert word in caplog.text
    assert again is not None
    assert same(again, files)


def test_a_file_of_another_key_does_not_count(folder: Path, files: Files) -> None:
    assert make(folder, files, "a") is not None
    (folder / "a.cache").rename(folder / "b.cache")
    made = (folder / "b.cache").stat().st_ino
    assert make(folder, files, "b") is not None
    assert (folder / "b.cache").stat().st_ino != made


def test_a_flipped_pixel_is_decoded_instead_and_the_cache_made_again(
    folder: Path, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    assert make(folder, files) is not None
    path = folder / f"{KEY}.cache"
    _flip(path, path.stat().st_size - 5)
    decoded = make(folder, files)
    assert decoded is not None
    assert same(decoded, files)
    assert "picture 6 doesn't match its checksum" in caplog.text
    assert not path.exists()
    # The others still come from the file that is open.
    assert same(decoded, files)
    assert caplog.text.count("is damaged") == 1


def test_a_file_that_goes_away_is_decoded_instead(folder: Path, files: Files) -> None:
    decoded = make(folder, files)
    assert decoded is not None
    elsewhere: Decoded = pickle.loads(pickle.dumps(decoded))
    (folder / f"{KEY}.cache").unlink()
    assert same(decoded, files)
    assert same(elsewhere, files)


def test_over_the_limit_nothing_is_cached(
    folder: Path,
    files: Files,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(cache, "MAX_BYTES", 1000)
    caplog.set_level(logging.INFO)
    assert make(folder, files) is None
    assert "MiB may be used" in caplog.text
    assert "decoded in each epoch" in caplog.text
    assert list(folder.iterdir()) == []


def test_the_oldest_goes_where_room_is_needed_unless_it_is_open(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(name: str, moment: int) -> Path:
        path = folder / f"{name}.cache"
        path.write_bytes(b"x" * 1000)
        os.utime(path, (moment, moment))
        return path

    monkeypatch.setattr(cache, "MAX_BYTES", 3500)
    oldest, old, new = put("b", 1), put("c", 2), put("a", 3)
    assert make_room(folder, 100) is None
    assert oldest.exists()
    with oldest.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        assert make_room(folder, 1000) is None
        assert [path.exists() for path in (oldest, old, new)] == [True, False, True]
        reason = make_room(folder, 3000)
    assert reason is not None
    assert "other trainers use" in reason
    assert make_room(folder, 3400) is None
    assert list(folder.iterdir()) == []


def test_an_open_cache_is_not_evicted(
    folder: Path, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = make(folder, files)
    assert used is not None
    size = (folder / f"{KEY}.cache").stat().st_size
    monkeypatch.setattr(cache, "MAX_BYTES", size + 100)
    assert make(folder, files, "other") is None
    assert (folder / f"{KEY}.cache").exists()


def _build_under_a_limit(folder: Path, files: Files, limit: int, result: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    logging.basicConfig(filename=result)
    try:
        assert make(folder, files) is None
    finally:
        logging.shutdown()


@one_kind
def test_a_full_disk_is_a_line_in_the_log(folder: Path, files: Files, tmp_path: Path) -> None:
    """The limit on a file's size stands for the disk's: the same calls fail, for real."""
    result = tmp_path / "log"
    process = SPAWN.Process(target=_build_under_a_limit, args=(folder, files, 10_000, result))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert "File too large" in result.read_text()
    assert "decoded in each epoch" in result.read_text()
    assert list(folder.iterdir()) == []


class _Slow(Files):
    """Pairs that leave a sign when each is decoded, and wait for a word after the third."""

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        root = self.pairs[0].image.parents[1]
        (root / f"read-{index}-{os.getpid()}-{time.monotonic_ns()}").touch()
        if len(list(root.glob("read-*"))) > 3:
            deadline = time.monotonic() + 60
            while not (root / "go").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
        return super().read(index)


def _build(folder: Path, files: Files, ready: Event) -> None:
    ready.set()
    decoded = make(folder, files)
    assert decoded is not None
    assert same(decoded, Files(files.pairs, files.decoding, files.side, files.bits))


def _wait_for(condition: Event | None = None, *, paths: int = 0, root: Path = Path()) -> None:
    if condition is not None:
        assert condition.wait(60)
    deadline = time.monotonic() + 60
    while len(list(root.glob("read-*"))) < paths:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def slow(files: Files) -> Iterator[_Slow]:
    """As `files`, but a build stops in its middle."""
    yield _Slow(files.pairs, files.decoding, files.side)
    (files.pairs[0].image.parents[1] / "go").touch()


@one_kind
def test_two_that_want_the_same_at_once_make_it_once(folder: Path, slow: _Slow) -> None:
    root = slow.pairs[0].image.parents[1]
    ready = [SPAWN.Event() for _ in range(2)]
    processes = [SPAWN.Process(target=_build, args=(folder, slow, event)) for event in ready]
    for process in processes:
        process.start()
    for event in ready:
        _wait_for(event)
    _wait_for(paths=4, root=root)
    (root / "go").touch()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(list(root.glob("read-*"))) == len(slow)
    assert [path.name for path in folder.iterdir()] == [f"{KEY}.cache"]


@one_kind
def test_one_takes_over_where_the_other_is_killed(folder: Path, slow: _Slow) -> None:
    root = slow.pairs[0].image.parents[1]
    ready = [SPAWN.Event() for _ in range(2)]
    first = SPAWN.Process(target=_build, args=(folder, slow, ready[0]))
    first.start()
    _wait_for(ready[0], paths=4, root=root)
    second = SPAWN.Process(target=_build, args=(folder, slow, ready[1]))
    second.start()
    _wait_for(ready[1])
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    first.join(60)
    assert first.exitcode == -signal.SIGKILL
    (root / "go").touch()
    second.join(60)
    assert second.exitcode == 0
    assert [path.name for path in folder.iterdir()] == [f"{KEY}.cache"]


@one_kind
def test_a_kill_leaves_nothing_half_and_nothing_for_long(
    folder: Path, slow: _Slow, files: Files
) -> None:
    ready = SPAWN.Event()
    process = SPAWN.Process(target=_build, args=(folder, slow, ready))
    process.start()
    _wait_for(ready, paths=4, root=slow.pairs[0].image.parents[1])
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert [path.name for path in folder.iterdir()] == [f"{TEMPORARY}{KEY}"]
    # Another data set's trainer removes it; nobody else has to come for this one.
    assert make(folder, files, "other") is not None
    assert [path.name for path in folder.iterdir()] == ["other.cache"]


def test_a_stop_ends_the_making_and_leaves_nothing(folder: Path, files: Files) -> None:
    def stop(_: str, done: int, total: int) -> None:
        if done == 3:
            raise InterruptionError("asked to stop")

    with pytest.raises(InterruptionError):
        open_cache(folder, files, KEY, progress=stop, check=_nothing)
    assert list(folder.iterdir()) == []


def test_a_stop_ends_the_waiting(folder: Path, files: Files) -> None:
    told: list[tuple[str, int, int]] = []
    with (folder / f"{TEMPORARY}{KEY}").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write("3/7".ljust(64))
        other.flush()

        def check() -> None:
            if told:
                raise InterruptionError("asked to stop")

        with pytest.raises(InterruptionError):
            open_cache(folder, files, KEY, progress=lambda *state: told.append(state), check=check)
    assert told == [("waiting for another trainer's decoded cache", 3, 7)]


def test_where_caches_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder(tmp_path / "scratch") == tmp_path / "scratch/decoded"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    assert cache_folder(None) == tmp_path / "mine/kubeseg/decoded"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder(None) == tmp_path / ".cache/kubeseg/decoded"


def test_a_home_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cache_folder(None) == tmp_path / f"kubeseg-{os.getuid()}/decoded"
    # Named folders are not replaced by another.
    assert cache_folder(blocked) is None
    assert "--scratch" in caplog.text


@pytest.mark.parametrize("preset", ["None", "Strong"])
def test_samples_are_the_same_with_and_without_it(folder: Path, files: Files, preset: str) -> None:
    def samples() -> ImageSamples:
        return ImageSamples(
            files.pairs,
            side=32,
            decoding=files.decoding,
            augmentation=Augmentation(transforms_of(preset), seed=3),  # type: ignore[arg-type]
            crop=files.side is None,
            seed=3,
        )

    plain, cached = samples(), samples()
    decoded = make(folder, files)
    assert decoded is not None
    cached.use(decoded, first=0)
    for _ in range(2):
        # Twice: an augmentation that writes to its input would show now.
        for epoch in (None, 1, 2):
            for index in range(len(files)):
                one, two = (part[SampleKey(epoch, index)] for part in (plain, cached))
                assert all(bool((one[name] == two[name]).all()) for name in ("image", "mask"))
