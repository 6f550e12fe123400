"""A trainer that follows a script, for tests of the operator on a real cluster. Stdlib only.

It keeps the trainer's contract as the operator sees it: the configuration file, `/progress`,
SIGTERM, exit codes and the termination message. `SCRIPT` (JSON) says what happens:
`epochs` to finish, `seconds` each, the `exit` code then, `message`, and `serve`: "well" (default),
"lies", "hangs", "floods" or "nothing". `eat`: MiB of memory for each image of a part of a batch.
`crash`: what it prints before it ends without a last word. `check`: `seconds`, `exit` code and
`message` of the check that comes before a GPU is taken; `workers`: by index, what is otherwise of
one of several.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SCRIPT: dict[str, Any] = json.loads(os.environ.get("SCRIPT", "{}"))
SCRIPT |= SCRIPT.get("workers", {}).get(os.environ.get("JOB_COMPLETION_INDEX", "0"), {})
CONFIG = Path(sys.argv[sys.argv.index("--config") + 1])
CHANGED = threading.Condition()
STOPPED = threading.Event()
WAITING: list[BaseHTTPRequestHandler] = []
STATE: dict[str, Any] = {"seq": 1, "epoch": 0, "state": "Starting"}


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def config() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(CONFIG.read_text())
    return read


def report() -> dict[str, Any]:
    known = config()
    epoch = STATE["epoch"]
    part = {"loss": 0.5, "dice": 0.5, "iou": 0.5, "samples": 1, "classDice": [], "classIou": []}
    last = {
        "epoch": epoch,
        "step": epoch,
        "train": part,
        "validation": part,
        "learningRate": 0.1,
        "seconds": 1.0,
        "samplesPerSecond": 1.0,
        "time": now(),
        "attempt": known["attempt"],
        "start": 1,
    }
    told = {
        "seq": STATE["seq"],
        "job": known["job"],
        "uid": known["uid"],
        "attempt": known["attempt"],
        "start": 1,
        "state": STATE["state"],
        "epoch": epoch,
        "epochs": known["training"]["epochs"],
        "step": 0,
        "stepsPerEpoch": 1,
        "generation": known["generation"],
        "batchSize": known["training"]["batchSize"],
        "accumulate": known["training"]["accumulate"],
        "updated": now(),
    }
    if epoch:
        told |= {"last": last, "best": last, "checkpoint": {"epoch": epoch, "time": now()}}
    return told


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/healthz":
            self.answer(b"ok")
            return
        match SCRIPT.get("serve", "well"):
            case "hangs":
                STOPPED.wait(120)
            case "floods":
                self.flood()
            case "lies":
                self.answer(json.dumps(report() | {"epoch": 10**30, "uid": "x"}).encode())
            case _:
                query = dict(p.split("=") for p in self.path.partition("?")[2].split("&") if p)
                seq, wait = int(query.get("seq", -1)), float(query.get("wait", 0))
                WAITING.append(self)
                try:
                    with CHANGED:
                        CHANGED.wait_for(lambda: STATE["seq"] > seq, timeout=wait)
                    self.answer(json.dumps(report()).encode())
                finally:
                    WAITING.remove(self)

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def flood(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(10_000):
                self.wfile.write(b"[" * 100_000)
        except OSError:
            return  # the operator has had enough

    def log_message(self, *_: Any) -> None:
        pass


def change(**fields: Any) -> None:
    with CHANGED:
        STATE.update(fields)
        STATE["seq"] += 1
        CHANGED.notify_all()


def drain(seconds: float) -> None:
    """Let those who wait get their answer, as the real trainer does before it ends."""
    until = time.monotonic() + seconds
    while WAITING and time.monotonic() < until:
        time.sleep(0.01)


def end(code: int, message: str) -> None:
    change(state="Finished")
    drain(1)
    epoch = STATE["epoch"]
    told = {
        "exitCode": code,
        "reason": "Scripted",
        "message": message,
        "epoch": epoch,
        "epochs": config()["training"]["epochs"],
        "generation": config()["generation"],
    }
    if epoch:
        told["checkpoint"] = {"epoch": epoch, "time": now()}
    Path("/dev/termination-log").write_text(json.dumps(told))
    sys.exit(code)


def check() -> None:
    script = SCRIPT.get("check", {})
    if STOPPED.wait(script.get("seconds", 0)):
        script = {"exit": 75, "message": "interrupted by SIGTERM"}
    told = {
        "exitCode": script.get("exit", 0),
        "reason": "Scripted",
        "message": script.get("message", "all is well"),
    }
    Path("/dev/termination-log").write_text(json.dumps(told))
    sys.exit(told["exitCode"])


def eat() -> bytes:
    """Memory that is really used, as a network's activations would be."""
    training = config()["training"]
    images = -(-training["batchSize"] // training["accumulate"])
    mebibytes: int = images * SCRIPT.get("eat", 0)
    return b"x" * (mebibytes << 20)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: STOPPED.set())
    if sys.argv[1] == "check":
        check()
    if SCRIPT.get("serve") != "nothing":
        server = ThreadingHTTPServer((os.environ["POD_IP"], 9100), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
    change(state="Training")
    eaten = eat()
    generation = config()["generation"]
    until = time.monotonic()
    while STATE["epoch"] < SCRIPT.get("epochs", 0):
        until += SCRIPT.get("seconds", 1)
        while (left := until - time.monotonic()) > 0:
            if STOPPED.wait(min(left, 0.05)):
                end(75, "interrupted by SIGTERM")
            if config()["generation"] != generation:
                generation = config()["generation"]
                change()
        change(epoch=STATE["epoch"] + 1)
        print(f"epoch {STATE['epoch']} {now()}", flush=True)
        if config()["stop"]:
            end(0, "stopped")
    del eaten
    if "crash" in SCRIPT:
        print(SCRIPT["crash"], flush=True)
        os._exit(1)
    end(SCRIPT.get("exit", 0), SCRIPT.get("message", "as the script says"))


if __name__ == "__main__":
    main()
