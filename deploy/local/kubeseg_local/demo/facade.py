"""The demo's calls to the REST facade."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from kubeseg_local.demo.failure import DemoError

READY_DEADLINE_S = 60.0


class Facade:
    """The facade at an address, as the owner of a token."""

    def __init__(self, address: str, token: str) -> None:
        self.address = address
        self._http = httpx.Client(
            base_url=address,
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(10, read=600, write=600),
            trust_env=False,  # a proxy has no business on loopback
        )

    def wait_ready(self) -> None:
        """Wait until it answers at its address. Raises DemoError."""
        until = time.monotonic() + READY_DEADLINE_S
        while True:
            try:
                reply = self._http.get("/readyz")
                if reply.status_code == httpx.codes.OK:
                    return
                why = reply.text[:300]
            except httpx.TransportError as error:
                why = str(error)
            if time.monotonic() > until:
                raise DemoError(f"{self.address}/readyz: {why}")
            time.sleep(0.2)

    def next_study(self, user: str) -> str:
        """The id that the next study of `user` gets, if nobody else asks for one."""
        number = 1
        while not self._http.get("/study", params={"ModelName": f"{user}-{number}"}).is_error:
            number += 1
        return f"{user}-{number}"

    def upload(self, name: str, archive: Path) -> bool:
        """Upload a ZIP as the data set `name`, replacing an older one.

        False where an unfinished job reads the older one, which is left then. Raises DemoError.
        """
        try:
            with archive.open("rb") as body:
                reply = self._http.put(
                    f"/v1/datasets/{name}",
                    params={"replace": "true"},
                    content=body,
                    headers={"Content-Type": "application/zip"},
                )
        except httpx.TransportError as error:
            raise DemoError(f"upload of {name} to {self.address}: {error}") from error
        if reply.status_code == httpx.codes.CONFLICT:
            return False
        if reply.is_error:
            raise DemoError(f"upload of {name}: {_detail(reply)}")
        return True

    def download(self, path: str, target: Path, on_bytes: Callable[[int], None]) -> str:
        """Download a file of the workspace to `target`, whole or not at all; its SHA-256 in hex."""
        digest, partial = hashlib.sha256(), target.with_name(target.name + ".part")
        try:
            with self._http.stream("GET", f"/v1/files/{path}") as reply:
                if reply.is_error:
                    reply.read()
                    raise DemoError(f"download of {path}: {_detail(reply)}")
                with partial.open("wb") as out:
                    for block in reply.iter_bytes(1 << 20):
                        digest.update(block)
                        out.write(block)
                        on_bytes(out.tell())
        except httpx.TransportError as error:
            raise DemoError(f"download of {path} from {self.address}: {error}") from error
        partial.replace(target)
        return digest.hexdigest()


def _detail(reply: httpx.Response) -> str:
    """What the reply says is wrong."""
    try:
        body = reply.json()
    except ValueError:
        return f"{reply.status_code} {reply.text[:300]}"
    return str(body.get("detail", body)) if isinstance(body, dict) else str(body)
