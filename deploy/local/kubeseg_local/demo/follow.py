"""The TrainingJob of the demo: applied with kubectl, and followed until it ends."""

from __future__ import annotations

import hashlib
import json
import queue
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

from kubeseg_local.demo.failure import DemoError
from kubeseg_local.demo.install import NAMESPACE, Kubectl
from kubeseg_local.demo.plan import Plan
from kubeseg_local.demo.screen import Screen
from kubeseg_local.demo.view import Follower, Job, is_finished, obstacle
from kubeseg_types.status import Phase, TrainingJobStatus

# On the TrainingJob: what it was made of, so that an interrupted demo finds its own again.
MADE_OF = "demo.kubeseg.dev/made-of"
REDRAW_S = 0.2
RENEW_S = 0.5


def leftover(kubectl: Kubectl, plan: Plan) -> str | None:
    """What of an earlier demo is there: "running" if it trains just this, "other", or None."""
    job = kubectl.get("trainingjob", plan.job)
    if job is None:
        return None
    same = job["metadata"].get("annotations", {}).get(MADE_OF) == made_of(plan)
    status = TrainingJobStatus.model_validate(job.get("status") or {})
    return "running" if same and not is_finished(status) else "other"


def made_of(plan: Plan) -> str:
    """Data and manifest of a plan, as one word."""
    manifest = hashlib.sha256(plan.manifest.read_bytes()).hexdigest()
    return f"{plan.sha256[:16]}-{manifest[:16]}"


def apply(kubectl: Kubectl, plan: Plan) -> None:
    """`kubectl apply -f` the plan's manifest, as a user would."""
    kubectl.run("apply", "-f", str(plan.manifest))
    kubectl.run("annotate", "trainingjob", plan.job, f"{MADE_OF}={made_of(plan)}", "--overwrite")


def _changes(kubectl: Kubectl, name: str) -> Iterator[Job | None]:
    """The TrainingJob whenever it changes; None when nothing came for a moment."""
    arrived: queue.Queue[Job | None] = queue.Queue()

    def read(stream: Any) -> None:
        decoder, text = json.JSONDecoder(), ""
        for line in stream:
            text += line
            if line.startswith("}"):
                job, end = decoder.raw_decode(text)
                arrived.put(job)
                text = text[end:].lstrip()

    while True:
        watch_job = ["-n", NAMESPACE, "get", "trainingjob", name, "--watch", "-o", "json"]
        with subprocess.Popen(
            [str(kubectl.bin_dir / "kubectl"), *watch_job],
            env=kubectl.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as watch:
            reader = threading.Thread(target=read, args=(watch.stdout,), daemon=True)
            reader.start()
            try:
                while watch.poll() is None:
                    try:
                        yield arrived.get(timeout=REDRAW_S)
                    except queue.Empty:
                        yield None
            finally:
                watch.terminate()
            assert watch.stderr is not None
            said = watch.stderr.read().strip()
        if "NotFound" in said:
            raise DemoError(f'the TrainingJob "{name}" was deleted while it was followed')
        # A watch ends now and then: the API server closes it, or was restarted.
        time.sleep(RENEW_S)


def follow(kubectl: Kubectl, plan: Plan, screen: Screen) -> TrainingJobStatus:
    """Show the training until it has succeeded. Raises DemoError where it fails."""
    follower, status, received = Follower(), TrainingJobStatus(), time.monotonic()
    with screen.step("train") as step:
        step.result = f"training {plan.job}"
        for job in _changes(kubectl, plan.job):
            if job is not None:
                status, received = follower.take(job), time.monotonic()
                line = follower.epoch_line(status)
                for each in (line, follower.hold_line(status)):
                    if each and not screen.live:
                        screen.line(each)
            if is_finished(status):
                break
            live = follower.live_text(status, time.monotonic() - received)
            if screen.live or not follower.history:
                step.say(live)
        if status.phase is Phase.FAILED:
            step.result = f"{plan.job} failed"
            raise DemoError(_post_mortem(kubectl, plan, status))
        step.result = _summary(status)
    return status


def _summary(status: TrainingJobStatus) -> str:
    best = status.metrics.best if status.metrics else None
    epochs = status.progress.epoch if status.progress else 0
    if best is None or best.val_iou is None or best.val_dice is None:
        return f"{epochs} epochs"
    return (
        f"{epochs} epochs   best: epoch {best.epoch}, "
        f"val Dice {best.val_dice:.3f}, IoU {best.val_iou:.3f}"
    )


def _post_mortem(kubectl: Kubectl, plan: Plan, status: TrainingJobStatus) -> str:
    """Why a training failed: its condition, and what its last pod said."""
    lines = [obstacle(status)]
    try:
        log = kubectl.run("logs", "-l", f"kubeseg.dev/job={plan.job}", "--tail=15")
        lines += [f"    {line}" for line in log.splitlines()]
    except DemoError as error:  # no pod is left to ask: say that beside the reason proper
        lines.append(f"    (no log: {error})")
    return "\n".join(lines)
