"""Who of the group is still there: one connection from each rank to rank 0.

A process that dies closes its connection at once, a machine that vanishes falls silent: either
way the others know within seconds, also while they compute or wait for a collective that would
hang. A rank that ends with an error says so first, and all end for that reason.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kubeseg_types.exit_codes import ExitCode

#: Seconds between two signs of life, and without any before a peer counts as lost.
BEAT = 3.0
SILENCE = 20.0
_HELLO = 10.0
_LONGEST = 8192


@dataclass(frozen=True)
class Loss:
    """The end of another rank, which ends this one."""

    rank: int
    code: ExitCode
    text: str

    @property
    def sentence(self) -> str:
        """What to tell people."""
        return f"rank {self.rank}: {self.text}"


class Peer:
    """One connection, as lines of JSON."""

    def __init__(self, connection: socket.socket, rank: int) -> None:
        self.rank = rank
        #: It has said that it ends as agreed.
        self.done = False
        self._socket = connection
        self._reader = connection.makefile("rb")
        self._lock = threading.Lock()
        connection.settimeout(SILENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, **message: Any) -> None:
        """Say something; a peer that is gone is the reader's business."""
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        """What it says next; OSError when it is gone, TimeoutError when it is silent."""
        line = self._reader.readline(_LONGEST)
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the connection ended")
        try:
            message: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise ConnectionResetError("what came is no message") from error
        return message

    def close(self) -> None:
        """End the connection, and with it the thread that reads it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Peers:
    """Watches over the other ranks: over all of them on rank 0, over rank 0 on the others.

    `lost` is called once, in a thread of its own, with what ends this rank.
    """

    def __init__(self, rank: int, lost: Callable[[Loss], None]) -> None:
        self.rank = rank
        self.loss: Loss | None = None
        self._lost = lost
        self._peers: list[Peer] = []
        self._lock = threading.Lock()
        self._known = threading.Event()
        self._ended = threading.Event()

    def accept(self, listening: socket.socket, size: int, token: str) -> None:
        """On rank 0: let the others in; TimeoutError where they don't come."""
        with listening:
            while len(self._peers) < size - 1:
                connection, _ = listening.accept()
                peer = Peer(connection, -1)
                connection.settimeout(_HELLO)
                try:
                    hello = peer.receive()
                    peer.rank = int(hello["rank"])
                    right = secrets.compare_digest(str(hello["token"]), token)
                except (OSError, KeyError, ValueError, TypeError):
                    right = False
                if right:
                    connection.settimeout(SILENCE)
                    self._peers.append(peer)
                else:
                    # Whoever that is, it is none of us.
                    connection.close()
        self._begin()

    def connect(self, address: str, port: int, token: str) -> None:
        """On the others: to rank 0; OSError where it is not there."""
        peer = Peer(socket.create_connection((address, port), timeout=_HELLO), 0)
        peer.send(rank=self.rank, token=token)
        self._peers.append(peer)
        self._begin()

    def _begin(self) -> None:
        for peer in self._peers:
            threading.Thread(target=self._read, args=(peer,), daemon=True).start()
        threading.Thread(target=self._beat, name="peers", daemon=True).start()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            for peer in self._peers:
                peer.send()

    def _read(self, peer: Peer) -> None:
        while not self._ended.is_set():
            try:
                message = peer.receive()
            except TimeoutError:
                self._report(peer, f"was not heard of for {SILENCE:.0f} s: its machine is gone")
                return
            except (OSError, ValueError):
                # ValueError: our own side has closed it.
                self._report(peer, "has died (killed, or its machine is gone)")
                return
            if "code" in message:
                if message["code"] == ExitCode.SUCCESS:
                    peer.done = True
                else:
                    code = ExitCode(message["code"])
                    self._end(Loss(int(message["rank"]), code, str(message["text"])))
                    return

    def _report(self, peer: Peer, what: str) -> None:
        if not peer.done and not self._ended.is_set():
            text = f"{what}; this ends the others, and the run goes on from its checkpoint"
            self._end(Loss(peer.rank, ExitCode.INTERRUPTED, text))

    def _end(self, loss: Loss) -> None:
        with self._lock:
            if self.loss is not None or self._ended.is_set():
                return
            self.loss = loss
        self._known.set()
        if self.rank == 0:
            for peer in self._peers:
                peer.send(rank=loss.rank, code=int(loss.code), text=loss.text)
        self._lost(loss)

    def why(self, seconds: float) -> Loss | None:
        """What ends this rank, waited for so long: a broken collective is noticed before it."""
        self._known.wait(seconds)
        return self.loss

    def leave(self, code: ExitCode, text: str) -> None:
        """Say how this rank ends (SUCCESS: as agreed), and watch no longer."""
        with self._lock:
            if self._ended.is_set():
                return
            self._ended.set()
        for peer in self._peers:
            if self.loss is None:
                peer.send(rank=self.rank, code=int(code), text=text[:1000])
            peer.close()
