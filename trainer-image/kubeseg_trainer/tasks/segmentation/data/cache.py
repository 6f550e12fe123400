"""The decoded cache of a node: who makes it, who waits, what is removed for it."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from kubeseg_trainer.engine.hardware import usable_cores
from kubeseg_trainer.files import TEMPORARY, sync_directory
from kubeseg_trainer.tasks.segmentation.data.cache_file import CacheWriter, DamagedError, read_note
from kubeseg_trainer.tasks.segmentation.data.sources import Decoded, Files

log = logging.getLogger(__name__)

FOLDER = "decoded"
_SUFFIX = ".cache"
#: All caches of a folder together: at most so many bytes, …
MAX_BYTES = 64 << 30
#: … and at most this share of the disk's room for them. A kubelet evicts pods when a tenth is left.
SHARE = 0.25
#: Seconds between two looks at a cache that another process makes.
LOOK = 0.2

#: Called with (text, done, total) while something goes on; may raise to break it off.
Progress = Callable[[str, int, int], None]


def cache_folder(scratch: Path | None) -> Path | None:
    """Where caches go: in `scratch`, else in the user's own cache or temporary folder.

    None where none of them can be written (said in the log).
    """
    problem: object = None
    for candidate in [scratch] if scratch is not None else _own_folders():
        folder = candidate / FOLDER
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # A folder for everyone may hold one that somebody else made under our name.
            if scratch is None and candidate.stat().st_uid != os.getuid():
                problem = f"{candidate} belongs to someone else"
                continue
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError as error:
            problem = error
    log.warning("no decoded cache: %s (name a folder on this node with --scratch)", problem)
    return None


def _own_folders() -> Iterator[Path]:
    wanted = os.environ.get("XDG_CACHE_HOME", "")
    if Path(wanted).is_absolute():
        yield Path(wanted) / "kubeseg"
    else:
        # A pod's user may have no home.
        with contextlib.suppress(RuntimeError):
            yield Path.home() / ".cache" / "kubeseg"
    yield Path(tempfile.gettempdir()) / f"kubeseg-{os.getuid()}"


def open_cache(
    folder: Path, files: Files, key: str, *, progress: Progress, check: Callable[[], None]
) -> Decoded | None:
    """The decoded `files`, made first where they aren't there. None where they don't fit on the
    disk or it can't be used, which is said in the log; DatasetError where a file is broken.

    `check` is called while another process makes them, and may raise to break off.
    """
    path, temporary = folder / f"{key}{_SUFFIX}", folder / f"{TEMPORARY}{key}"
    decoded = Decoded(files, path, key)
    try:
        while _problem(decoded, path) is not None:
            with _sole_writer(temporary) as file:
                if file is None:
                    _await(temporary, progress, check)
                    continue
                problem = _problem(decoded, path)
                if problem is None:
                    continue
                if problem:
                    log.warning("the decoded cache %s is made again: %s", path, problem)
                refusal = _make(folder, file, files, key, progress)
                if refusal is not None:
                    log.info("no decoded cache: %s. Images are decoded in each epoch", refusal)
                    return None
    except (OSError, DamagedError) as error:
        log.warning("no decoded cache in %s: %s. Images are decoded in each epoch", folder, error)
        return None
    return decoded


def _problem(decoded: Decoded, path: Path) -> str | None:
    """Why the cache can't be used, "" where there is none; None where it is open now."""
    try:
        decoded.open()
        # The one that was used longest ago goes first.
        os.utime(path)
    except FileNotFoundError:
        return ""
    except DamagedError as error:
        return str(error)
    return None


@contextmanager
def _sole_writer(path: Path) -> Iterator[int | None]:
    """The temporary file at `path`, locked: None where another process holds it.

    The lock ends with its holder, however that ends. What is still at `path` then is removed.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
    try:
        if not _locked(file, path):
            yield None
            return
        try:
            yield file
        finally:
            # Not where it has been renamed: someone else may have begun another by now.
            if _is_at(file, path):
                path.unlink()
    finally:
        os.close(file)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.fstat(file).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _locked(file: int, path: Path) -> bool:
    """Whether we now hold `file` alone, and it still is what lies at `path`."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return _is_at(file, path)


def _await(temporary: Path, progress: Progress, check: Callable[[], None]) -> None:
    """Until the other writer is done or gone, showing how far it is."""
    before = ""
    while True:
        check()
        with _probe(temporary) as free:
            if free:
                return
        note = read_note(temporary)
        done, _, total = note.partition("/")
        if note != before and done.isdecimal() and total.isdecimal():
            # Only what moves is a sign of life: a writer that hangs must not keep us waiting.
            progress("waiting for another trainer's decoded cache", int(done), int(total))
            before = note
        time.sleep(LOOK)


@contextmanager
def _probe(path: Path) -> Iterator[bool]:
    """Whether nobody holds the file at `path`."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    try:
        # Held for an instant where nobody else holds it.
        yield _locked(file, path)
    finally:
        os.close(file)


def _make(folder: Path, file: int, files: Files, key: str, progress: Progress) -> str | None:
    """Decode everything into the locked temporary file, and put it in place; why not, or None."""
    remove_leftovers(folder)
    text = "decoding the data set"
    with ThreadPoolExecutor(usable_cores()) as pool:
        try:
            sizes = list(pool.map(files.size, range(len(files))))
            writer = CacheWriter(file, sizes, channels=files.decoding.channels, bits=files.bits)
            reason = make_room(folder, writer.bytes)
            if reason is not None:
                return reason
            writer.reserve()

            def decode(number: int) -> None:
                writer.put(number, *files.read(number))

            began = time.monotonic()
            running = [pool.submit(decode, number) for number in range(len(files))]
            for done, future in enumerate(as_completed(running), 1):
                future.result()
                writer.note(f"{done}/{len(files)}")
                progress(text, done, len(files))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    writer.finish(key)
    (folder / f"{TEMPORARY}{key}").rename(folder / f"{key}{_SUFFIX}")
    sync_directory(folder)
    log.info(
        "decoded %d images once: %.1f MiB in %s, %.1f s",
        len(files),
        writer.bytes / 2**20,
        folder,
        time.monotonic() - began,
    )
    return None


def remove_leftovers(folder: Path) -> None:
    """Remove what writers that died left in `folder`."""
    for path in folder.glob(f"{TEMPORARY}*"):
        with _probe(path) as free:
            if free:
                path.unlink(missing_ok=True)


def make_room(folder: Path, need: int) -> str | None:
    """Remove the caches used longest ago until `need` bytes fit; why they can't, or None.

    Those that are open somewhere stay.
    """
    caches = []
    for path in folder.glob(f"*{_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            stat = path.stat()
            caches.append((stat.st_mtime_ns, stat.st_size, path))
    used = sum(size for _, size, _ in caches)
    free = shutil.disk_usage(folder).free
    allowed = min(MAX_BYTES, int((free + used) * SHARE))
    limit = (
        f"{allowed / 2**20:,.1f} MiB may be used in {folder} ({SHARE:.0%} of its free space, at "
        f"most {MAX_BYTES / 2**30:.0f} GiB)"
    )
    if need > allowed:
        return f"the decoded data set has {need / 2**20:,.1f} MiB, {limit}"
    for _, size, path in sorted(caches):
        if used + need <= allowed:
            break
        with _probe(path) as unused:
            if unused:
                path.unlink(missing_ok=True)
                used -= size
                log.info("removed the decoded cache %s: room is needed", path.name)
    if used + need > allowed:
        return (
            f"the decoded data set has {need / 2**20:,.1f} MiB; {limit}, and other trainers use "
            f"{used / 2**20:,.1f} MiB of that"
        )
    return None
