"""One job, nothing else going on: until its Job is there, and from an epoch's end to status."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from bench.operator.audit_log import creations
from bench.operator.load import NAMESPACE, client_of, key_of, make_jobs, training_job
from bench.operator.ours import operator
from bench.operator.plane import Plane, control_plane
from bench.report import Measure, single
from kubeseg_operator.apply import children_path, job_path, pods_path
from kubeseg_operator.client import ApiError, Client
from kubeseg_operator.clock import stamp, utc_now
from kubeseg_operator.views import Key, Raw
from kubeseg_types.names import TRAINER_CONTAINER, TRAINER_PORT
from kubeseg_types.trainer import EpochRecord, Part, Progress

DEADLINE = 60.0
#: Of the pod that is played here: an address of this machine's own.
ADDRESS = "127.77.0.1"
EPOCHS = 10


async def _until(look: Any, what: str) -> Any:
    began = time.monotonic()
    while True:
        found = await look()
        if found:
            return found
        if time.monotonic() - began > DEADLINE:
            raise SystemExit(f"{what}: not within {DEADLINE:.0f} s")
        await asyncio.sleep(0.005)


async def _get(client: Client, path: str) -> Raw | None:
    try:
        return await client.get(path)
    except ApiError as error:
        if error.code != 404:
            raise
        return None


async def _one_by_one(client: Client, count: int) -> None:
    path = job_path(Key(NAMESPACE, "")).rstrip("/")
    for number in range(1, count + 1):
        name = key_of(number).name
        await client.create(path, training_job(number))
        await _until(
            lambda name=name: _get(client, children_path(NAMESPACE, f"{name}-1")), f"{name}-1"
        )
        await asyncio.sleep(0.2)


class Trainer:
    """Answers `/progress` as a trainer does, and ends an epoch when told to."""

    def __init__(self, job: str, uid: str) -> None:
        self.report = Progress(
            seq=1, job=job, uid=uid, attempt=1, start=1, state="Training", epoch=0, epochs=EPOCHS,
            step=0, steps_per_epoch=10, generation=1, batch_size=8, accumulate=1,
            updated=stamp(utc_now()),
        )  # fmt: skip
        self._changed = asyncio.Condition()

    async def answer(self, request: web.Request) -> web.Response:
        """`GET /progress?seq=N&wait=S`."""
        seq, wait = int(request.query["seq"]), float(request.query["wait"])
        async with self._changed:
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait_for(lambda: self.report.seq > seq)
            except TimeoutError:
                pass
        return web.json_response(self.report.to_dict())

    async def end_epoch(self) -> None:
        """One more."""
        epoch = self.report.epoch + 1
        part = Part(loss=1.0, dice=0.5, iou=0.5, samples=80, class_dice=[0.5], class_iou=[0.5])
        record = EpochRecord(
            epoch=epoch, step=10 * epoch, train=part, validation=part, learning_rate=0.001,
            seconds=1.0, samples_per_second=80.0, time=stamp(utc_now()), attempt=1, start=1,
        )  # fmt: skip
        change = {"seq": self.report.seq + 1, "epoch": epoch, "step": 10 * epoch, "last": record}
        async with self._changed:
            self.report = self.report.model_copy(update={**change, "best": record})
            self._changed.notify_all()


async def _pod(client: Client, child: Raw) -> None:
    """A pod of `child` that runs, as Job controller, scheduler and kubelet would have made it."""
    template, meta = child["spec"]["template"], child["metadata"]
    owner = {
        "apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"],
        "controller": True,
    }  # fmt: skip
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{meta['name']}-0-bench",
            "labels": template["metadata"]["labels"],
            "annotations": template["metadata"]["annotations"],
            "ownerReferences": [owner],
        },
        "spec": template["spec"] | {"nodeName": "bench"},
    }
    # No controller makes it here, and no pod is made without it.
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    await client.create(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts", account)
    made = await client.create(pods_path(NAMESPACE), pod)
    now = stamp(utc_now())
    status = {
        "phase": "Running",
        "podIP": ADDRESS,
        "podIPs": [{"ip": ADDRESS}],
        "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": now}],
        "containerStatuses": [
            {
                "name": TRAINER_CONTAINER, "image": "trainer:1", "imageID": "", "ready": True,
                "restartCount": 0, "state": {"running": {"startedAt": now}},
            }
        ],
    }  # fmt: skip
    path = pods_path(NAMESPACE, made["metadata"]["name"])
    await client.replace(f"{path}/status", made | {"status": status})


async def _epochs(client: Client) -> list[float]:
    """Seconds from each epoch's end until status has it."""
    path = job_path(key_of(0))
    child = await _until(
        lambda: _get(client, children_path(NAMESPACE, f"{key_of(0).name}-1")), "its Job"
    )
    job = await client.get(path)
    trainer = Trainer(key_of(0).name, job["metadata"]["uid"])
    app = web.Application()
    app.router.add_get("/progress", trainer.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, ADDRESS, TRAINER_PORT).start()
    took = []
    try:
        await _pod(client, child)

        async def reached(epoch: int) -> bool:
            status = (await client.get(path))["status"]
            progress = status.get("progress") or {}
            return bool(status.get("phase") == "Running" and progress.get("epoch", 0) >= epoch)

        await _until(lambda: reached(0), "running")
        for epoch in range(1, EPOCHS + 1):
            await asyncio.sleep(1)
            began = time.monotonic()
            await trainer.end_epoch()
            await _until(lambda epoch=epoch: reached(epoch), f"epoch {epoch} in status")
            took.append(time.monotonic() - began)
    finally:
        await runner.cleanup()
    return took


def latency(count: int) -> Iterator[Measure]:
    """Medians of `count` jobs and of ten epochs; the spread is that of single ones."""

    async def measure(plane: Plane) -> list[float]:
        async with client_of(plane.kubeconfig) as client:
            await make_jobs(client, 1)
            took = await _epochs(client)
            await _one_by_one(client, count)
        return took

    with control_plane() as plane, operator(plane):
        epochs = asyncio.run(measure(plane))
        wanted = creations(plane.audit_log, "trainingjobs", NAMESPACE)
        made = creations(plane.audit_log, "jobs", NAMESPACE)
    names = [key_of(number).name for number in range(1, count + 1)]
    jobs = [1000 * (made[f"{name}-1"] - wanted[name]) for name in names]
    yield single("TrainingJob created → Job created", "ms", jobs, goal=100.0)
    yield single("an epoch's end → in status", "s", epochs, goal=1.0)
