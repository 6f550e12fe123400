"""The twin that only sends: the two writes of an attempt, without watching or deciding."""

from __future__ import annotations

from typing import Any

from bench.operator.load import NAMESPACE, together
from kubeseg_operator.apply import children_path, job_path
from kubeseg_operator.builders import child_job, child_name
from kubeseg_operator.client import Client
from kubeseg_operator.clock import stamp, utc_now
from kubeseg_operator.views import Key, job_view
from kubeseg_types.names import API_VERSION, KIND
from kubeseg_types.spec import TrainingJobSpec
from kubeseg_types.status import Attempt, Phase, TrainingJobStatus


async def bare(client: Client) -> None:
    """Reserve and make a Job for each TrainingJob; all that is sent is ready before it starts."""
    ready: list[tuple[Key, dict[str, Any], dict[str, Any]]] = []
    async for raw in client.list(job_path(Key(NAMESPACE, "")).rstrip("/")):
        job = job_view(raw)
        name = job.key.name
        attempt = Attempt(number=1, job_name=child_name(name, 1), reserved_time=stamp(utc_now()))
        status = TrainingJobStatus(phase=Phase.STARTING, attempts=[attempt])
        meta = {
            "name": name,
            "namespace": NAMESPACE,
            "uid": job.uid,
            "resourceVersion": job.version,
        }
        reserved = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": meta,
            "status": status.to_dict(),
        }
        spec = TrainingJobSpec.model_validate(job.spec)
        ready.append((job.key, reserved, child_job(job, spec, attempt=1, image="trainer:1")))

    async def send(one: tuple[Key, dict[str, Any], dict[str, Any]]) -> None:
        key, reserved, manifest = one
        await client.replace(job_path(key, "status"), reserved)
        await client.create(children_path(NAMESPACE), manifest)

    await together(ready, send)
