"""Files of runs: found, hashed, and turned into what `torch.load` opens."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
import os
import sys
import tempfile
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kubeseg_api.caller import Caller
from kubeseg_api.errors import ApiError, BadRequestError, NotFoundError
from kubeseg_api.storage.files import file_below, safe_parts
from kubeseg_types import workspace
from kubeseg_types.names import PLURAL

log = logging.getLogger(__name__)

BLOCK = 1 << 20
DIGESTS_KEPT = 1024
CONVERTERS = 2
CONVERT_SECONDS = 300


def digest_headers(sha256: str) -> dict[str, str]:
    """The digest (hex) as RFC 9530's header, and as one that a shell can compare."""
    encoded = base64.b64encode(bytes.fromhex(sha256)).decode()
    return {
        "Repr-Digest": f"sha-256=:{encoded}:",
        "X-Checksum-Sha256": sha256,
        "ETag": f'"{sha256}"',
    }


@dataclass
class Converted:
    """An open temporary file, whose name is gone already: closing it frees its space."""

    file: BinaryIO
    size: int
    sha256: str

    async def blocks(self) -> AsyncIterator[bytes]:
        """Its content; the file is closed at the end, or when the caller goes away."""
        with self.file:
            while block := await asyncio.to_thread(self.file.read, BLOCK):
                yield block


class Files:
    """Files below runs/ of one workspace."""

    def __init__(self, root: Path, temporary: Path) -> None:
        self._root = root
        self._temporary = temporary
        self._digests: OrderedDict[tuple[str, int, int, int], str] = OrderedDict()
        self._converters = asyncio.Semaphore(CONVERTERS)

    async def locate(self, caller: Caller, path: str) -> Path:
        """The file `path` (relative to the workspace) of a run that the caller may see.

        Raises NotFoundError for anything but a regular file inside a run's own folder.
        """
        parts = safe_parts(path)
        if parts is None or len(parts) < 4 or parts[0] != workspace.RUNS:
            raise _unknown(path)
        job, uid = parts[1], parts[2]
        await caller.require("get", PLURAL, job)
        found = await asyncio.to_thread(file_below, self._root, path, workspace.run_dir(job, uid))
        if found is None:
            raise _unknown(path)
        return found

    async def sha256(self, file: Path) -> str:
        """The file's digest in hex; computed once as long as the file stays as it is."""
        stat = await asyncio.to_thread(file.stat)
        key = (str(file), stat.st_ino, stat.st_size, stat.st_mtime_ns)
        known = self._digests.get(key)
        if known is None:
            known = await asyncio.to_thread(_sha256, file)
            self._digests[key] = known
            if len(self._digests) > DIGESTS_KEPT:
                self._digests.popitem(last=False)
        return known

    async def as_pt(self, file: Path) -> Converted:
        """The weights as a plain state_dict for `torch.load(…, weights_only=True)`.

        Raises BadRequestError where `file` holds no weights, ApiError where they can't be read.
        """
        if file.suffix != ".safetensors":
            raise BadRequestError(
                f"format=pt is for weights (*.safetensors); {file.name!r} is served as it is, "
                "without it",
                kind="not-weights",
            )
        async with self._converters:
            handle, name = await asyncio.to_thread(
                tempfile.mkstemp, ".pt", "kubeseg-", self._temporary
            )
            os.close(handle)
            target = Path(name)
            try:
                await _convert(file, target)
                sha256 = await asyncio.to_thread(_sha256, target)
                opened: BinaryIO = await asyncio.to_thread(target.open, "rb")
                return Converted(opened, os.fstat(opened.fileno()).st_size, sha256)
            finally:
                await asyncio.to_thread(target.unlink, missing_ok=True)


async def _convert(source: Path, target: Path) -> None:
    """Runs `kubeseg_api.convert` in a process of its own: torch never comes into this one."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "kubeseg_api.convert",
        str(source),
        str(target),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, errors = await asyncio.wait_for(process.communicate(), CONVERT_SECONDS)
    except TimeoutError as error:
        raise ApiError(
            f"{source.name} was not converted within {CONVERT_SECONDS} s; take the safetensors "
            "file instead (without ?format=pt)",
            kind="conversion-failed",
        ) from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        said = errors.decode(errors="replace").strip().splitlines()
        log.error("conversion of %s ended with %s: %s", source, process.returncode, said)
        raise ApiError(
            f"{source.name} can't be converted: {said[-1] if said else process.returncode}",
            kind="conversion-failed",
            title="The weights can't be converted",
        )


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _unknown(path: str) -> NotFoundError:
    return NotFoundError(
        f"there is no file {path!r} in a run of this workspace; use a FilePath, or a path from a "
        "TrainingJob's status",
        kind="file-not-found",
    )
