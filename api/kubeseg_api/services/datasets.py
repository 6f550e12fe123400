"""Data sets: uploaded as a ZIP, listed, removed; guarded by reviews on `datasets.kubeseg.dev`."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from starlette.requests import ClientDisconnect

from kubeseg_api.caller import Caller
from kubeseg_api.errors import (
    BadRequestError,
    ConflictError,
    FullError,
    InvalidError,
    NotFoundError,
    TooLargeError,
)
from kubeseg_api.settings import ENV_MAX_UPLOAD
from kubeseg_api.storage import archive, datasets, layout
from kubeseg_api.storage.incoming import Incoming, incoming
from kubeseg_types import workspace
from kubeseg_types.names import VIRTUAL_DATASETS

log = logging.getLogger(__name__)

BUFFER = 1 << 20
UNPACKERS = 2
#: A caller that has gone without a word must not hold its upload for ever.
IDLE_SECONDS = 60


class Datasets:
    """The data sets of one workspace."""

    def __init__(self, root: Path, limits: archive.Limits) -> None:
        self._root = root
        self._limits = limits
        self._unpackers = asyncio.Semaphore(UNPACKERS)

    async def list_all(self, caller: Caller) -> list[datasets.Info]:
        """All of them, with counts."""
        await caller.require("list", VIRTUAL_DATASETS)
        return await asyncio.to_thread(self._list)

    def _list(self) -> list[datasets.Info]:
        found = (datasets.info(self._root, name) for name in datasets.names(self._root))
        return [info for info in found if info]

    async def get(self, caller: Caller, name: str) -> datasets.Info:
        """One, with counts. Raises NotFoundError."""
        _check_name(name)
        await caller.require("get", VIRTUAL_DATASETS, name)
        found = await asyncio.to_thread(datasets.info, self._root, name)
        if found is None:
            raise _unknown(name)
        return found

    async def upload(
        self,
        caller: Caller,
        name: str,
        body: AsyncIterator[bytes],
        *,
        length: int | None,
        replace: bool,
    ) -> tuple[datasets.Info, bool]:
        """Puts what the ZIP in `body` holds under `name`: all of it at once, or nothing.

        `length` is the body's size in bytes where the caller said it. Returns the data set and
        whether another one was replaced. Raises the ApiErrors of `storage.archive`,
        `storage.layout` and `storage.datasets`, TooLargeError, FullError, and ConflictError where
        a TrainingJob reads the one to be replaced.
        """
        _check_name(name)
        await caller.require("create", VIRTUAL_DATASETS, name)
        there = await asyncio.to_thread(datasets.exists, self._root, name)
        if there and replace:
            await caller.require("delete", VIRTUAL_DATASETS, name)
            await self._check_unused(caller, name, "Stop them, or upload under another name")
        await asyncio.to_thread(datasets.check_place, self._root, name, replace=replace)
        if length is not None:
            self._check_size(length)
            await asyncio.to_thread(self._check_room, length)
        async with _InThread(incoming(self._root)) as place:
            await self._receive(body, place.archive)
            async with self._unpackers:
                await asyncio.to_thread(
                    archive.unpack, place.archive, place.unpacked, self._limits, self._check
                )
            await asyncio.to_thread(place.archive.unlink)
            if there and replace:
                await self._check_unused(caller, name, "Stop them, or upload under another name")
            await asyncio.to_thread(datasets.place, self._root, name, place, replace=replace)
        log.info("data set %s: uploaded", name)
        found = await asyncio.to_thread(datasets.info, self._root, name)
        if found is None:
            raise _unknown(name)  # removed again by someone else within this moment
        return found, there

    async def remove(self, caller: Caller, name: str) -> None:
        """Removes it. Raises NotFoundError, or ConflictError where a TrainingJob reads it."""
        _check_name(name)
        await caller.require("delete", VIRTUAL_DATASETS, name)
        if not await asyncio.to_thread(datasets.exists, self._root, name):
            raise _unknown(name)
        await self._check_unused(caller, name, "Stop them, or delete it after they end")
        async with _InThread(incoming(self._root)) as place:
            if not await asyncio.to_thread(datasets.remove, self._root, name, place):
                raise _unknown(name)
        log.info("data set %s: removed", name)

    async def _check_unused(self, caller: Caller, name: str, remedy: str) -> None:
        jobs = await caller.jobs_reading(name)
        if jobs:
            count = f"{len(jobs)} unfinished job{'s' if len(jobs) > 1 else ''}"
            raise ConflictError(
                f'"{name}" is read by {count}: {", ".join(jobs[:5])}'
                f"{' …' if len(jobs) > 5 else ''}. {remedy}.",
                kind="dataset-in-use",
                title="The data set is in use",
                jobs=jobs,
            )

    async def _receive(self, body: AsyncIterator[bytes], file: Path) -> None:
        received, pending = 0, bytearray()
        with await asyncio.to_thread(file.open, "xb") as out:
            try:
                async for chunk in _in_time(body):
                    received += len(chunk)
                    self._check_size(received)
                    pending += chunk
                    if len(pending) >= BUFFER:
                        await asyncio.to_thread(out.write, bytes(pending))
                        pending.clear()
            except ClientDisconnect as error:
                raise BadRequestError(
                    f"the upload broke off after {received} bytes; nothing was kept",
                    kind="upload-incomplete",
                ) from error
            except TimeoutError as error:
                raise BadRequestError(
                    f"no byte came for {IDLE_SECONDS} s after {received} bytes; nothing was kept",
                    status=408,
                    kind="upload-incomplete",
                ) from error
            await asyncio.to_thread(out.write, bytes(pending))

    def _check_size(self, size: int) -> None:
        if size > self._limits.bytes:
            raise TooLargeError(
                f"the upload has more than {self._limits.bytes} bytes, the limit of this service "
                f"({ENV_MAX_UPLOAD})",
                limit=self._limits.bytes,
            )

    def _check(self, files: list[str], claimed: int) -> None:
        layout.check(files)
        self._check_room(claimed)

    def _check_room(self, needed: int) -> None:
        stat = os.statvfs(self._root)
        free = stat.f_bavail * stat.f_frsize
        if needed > free:
            raise FullError(
                f"{needed} bytes are needed and the workspace volume has {free} left; nothing was "
                "changed. Delete data sets or old runs, or enlarge the volume.",
                freeBytes=free,
                neededBytes=needed,
            )


async def _in_time(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """`body`, with a TimeoutError where the next chunk takes longer than IDLE_SECONDS."""
    iterator = aiter(body)
    while True:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                chunk = await anext(iterator)
        except StopAsyncIteration:
            return
        yield chunk


def _check_name(name: str) -> None:
    why = workspace.dataset_name_error(name)
    if why:
        raise InvalidError(
            f"the data set's name {why}", kind="dataset-name", title="No name for a data set"
        )


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(
        f'there is no data set "{name}"; GET /v1/datasets lists them', kind="dataset-not-found"
    )


class _InThread:
    """Enters and leaves a blocking context manager in threads."""

    def __init__(self, manager: AbstractContextManager[Incoming]) -> None:
        self._manager = manager

    async def __aenter__(self) -> Incoming:
        return await asyncio.to_thread(self._manager.__enter__)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self._manager.__exit__, kind, error, trace)
