"""A right POST /study, and what it makes in the fake API server."""

from __future__ import annotations

from typing import Any

import httpx

from kubeseg_api.services.studies import job_name
from tests.support.fake_kube import FakeKube

STUDY: dict[str, Any] = {
    "User": "ann", "FileName": "shapes", "Epochs": 5, "LR": 0.01, "ImgSize": 256, "BatchSize": 4,
    "Model": "Unet", "TestSize": 0.25,
}  # fmt: skip


async def start(client: httpx.AsyncClient, **changes: Any) -> str:
    reply = await client.post("/study", params={**STUDY, **changes})
    assert reply.status_code == 200, reply.text
    return str(reply.json()["ModelName"])


def uid(kube: FakeKube, study: str) -> str:
    return str(kube.jobs[job_name(study)]["metadata"]["uid"])
