"""The twin that only sends: the two writes of an attempt, without watching or deciding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench.operator.load import NAMESPACE, together
from kubeseg_operator.apply import children_path, job_path, status_body
from kubeseg_operator.client import Client
from kubeseg_operator.clock import utc_now
from kubeseg_operator.decide import CreateChild, Observed, Settings, decide
from kubeseg_operator.views import JobView, Key, job_view, packed
from kubeseg_types.status import TrainingJobStatus

Raw = dict[str, Any]


def _writes(job: JobView) -> tuple[TrainingJobStatus, Raw]:
    """The status that reserves the first attempt, and its Job: what the operator would send."""
    settings = Settings(image="trainer:1")
    reserved = decide(job, Observed(), utc_now(), settings).status
    after = replace(job, status_json=packed(reserved.to_dict()))
    (create,) = decide(after, Observed(), utc_now(), settings).actions
    assert isinstance(create, CreateChild)
    return reserved, create.manifest


async def bare(client: Client) -> None:
    """Reserve and make a Job for each TrainingJob; all that is sent is ready before it starts."""
    ready: list[tuple[Key, Raw, Raw]] = []
    async for raw in client.list(job_path(Key(NAMESPACE, "")).rstrip("/")):
        job = job_view(raw)
        status, manifest = _writes(job)
        ready.append((job.key, status_body(job, status), manifest))

    async def send(one: tuple[Key, Raw, Raw]) -> None:
        key, reserved, manifest = one
        await client.replace(job_path(key, "status"), reserved)
        await client.create(children_path(NAMESPACE), manifest)

    await together(ready, send)
