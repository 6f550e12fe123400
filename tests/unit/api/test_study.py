from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from kubeseg_api.app import create_app
from kubeseg_api.kube import Cluster
from kubeseg_api.services.models import INITIAL
from kubeseg_api.services.studies import check_template, job_name, merged
from kubeseg_api.settings import Settings
from kubeseg_types.spec import TrainingJobSpec
from tests.support.fake_kube import FakeKube, status
from tests.support.run_folders import write_dataset
from tests.support.studies import STUDY, start


@pytest.fixture(autouse=True)
def dataset(root: Path) -> None:
    write_dataset(root, "ann/shapes")


@pytest.mark.parametrize("path", ["/study", "/study/"])
async def test_start_makes_the_training_job(
    client: httpx.AsyncClient, kube: FakeKube, root: Path, path: str
) -> None:
    reply = await client.post(path, params=STUDY)
    body = reply.json()
    assert reply.status_code == 200
    assert set(body) == {"AnswerDate", "ModelName"}
    assert datetime.fromisoformat(body["AnswerDate"]).tzinfo
    assert body["ModelName"] == "ann-1"
    job = kube.jobs[job_name("ann-1")]
    assert job["metadata"]["annotations"] == {
        "kubeseg.dev/study": "ann-1",
        "kubeseg.dev/user": "ann",
    }
    assert job["spec"] == {
        "model": {"architecture": "Unet"},
        "dataset": {"name": "ann/shapes", "testSize": 0.25},
        "training": {"epochs": 5, "learningRate": 0.01, "batchSize": 4, "imageSize": 256},
        "checkpoint": {"keepEpochs": True},
    }
    assert json.loads((root / "studies/ann-1/study.json").read_text()) == {
        "study": "ann-1", "user": "ann", "job": job_name("ann-1"), "fileName": "shapes",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Epochs", 0), ("Epochs", -1), ("Epochs", 100_001), ("Epochs", 10**30),
        ("LR", 0), ("LR", -0.1), ("LR", 1.0001), ("LR", "nan"), ("LR", "inf"), ("LR", "-inf"),
        ("ImgSize", 111), ("ImgSize", 1049), ("ImgSize", 0),
        ("BatchSize", 0), ("BatchSize", 101),
        ("TestSize", 0), ("TestSize", 0.9001), ("TestSize", "nan"), ("TestSize", "inf"),
        ("Model", "unet"), ("Model", "Transformer"), ("Model", ""),
        ("User", ""), ("User", "../ann"), ("User", "a/b"), ("User", "an n"), ("User", "images"),
        ("User", "."), ("User", "bob"), ("User", "\u00e4nn"), ("User", "ann\n"),
        ("User", "x" * 129),
        ("FileName", ""), ("FileName", "other"), ("FileName", ".."), ("FileName", "shapes/images"),
        ("FileName", "shapes\x00"),
    ],
)  # fmt: skip
async def test_a_value_out_of_range_is_400(
    client: httpx.AsyncClient, kube: FakeKube, root: Path, name: str, value: Any
) -> None:
    reply = await client.post("/study", params={**STUDY, name: value})
    assert (reply.status_code, reply.json()) == (400, {"detail": "Wrong parameters"})
    assert not kube.jobs
    assert not list((root / "studies").iterdir() if (root / "studies").exists() else [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Epochs", 1), ("Epochs", 100_000), ("LR", 1), ("LR", "1e-9"), ("ImgSize", 112),
        ("ImgSize", 333), ("ImgSize", 1048), ("BatchSize", 1), ("BatchSize", 100),
        ("TestSize", 0.9), ("TestSize", 0.0001), *(("Model", name) for name in INITIAL),
    ],
)  # fmt: skip
async def test_the_edges_of_the_ranges_are_inside(
    client: httpx.AsyncClient, kube: FakeKube, name: str, value: Any
) -> None:
    study = await start(client, **{name: value})
    TrainingJobSpec.model_validate(kube.jobs[job_name(study)]["spec"])


@pytest.mark.parametrize(
    ("name", "value"),
    [("Epochs", "many"), ("Epochs", 1.5), ("LR", "fast"), ("ImgSize", ""), ("TestSize", None)],
)
async def test_ill_typed_or_missing_parameters_are_422(
    client: httpx.AsyncClient, name: str, value: Any
) -> None:
    params = {k: v for k, v in {**STUDY, name: value}.items() if v is not None}
    reply = await client.post("/study", params=params)
    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"] == ["query", name]


async def test_ids_of_many_at_once_are_unique_and_without_gaps(
    client: httpx.AsyncClient, kube: FakeKube, settings: Settings
) -> None:
    second = create_app(settings, Cluster(kube.url))
    async with (
        second.router.lifespan_context(second),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(second), base_url="http://b", headers=client.headers
        ) as other,
    ):
        ids = await asyncio.gather(*(start(c) for _ in range(20) for c in (client, other)))
    assert sorted(ids, key=lambda i: int(i[4:])) == [f"ann-{n}" for n in range(1, 41)]
    assert len(kube.jobs) == 40


async def test_an_id_is_not_used_again_after_deletion_or_restart(
    client: httpx.AsyncClient, settings: Settings, kube: FakeKube
) -> None:
    assert [await start(client), await start(client)] == ["ann-1", "ann-2"]
    assert (await client.delete("/study", params={"ModelName": "ann-2"})).status_code == 200
    restarted = create_app(settings, Cluster(kube.url))
    async with (
        restarted.router.lifespan_context(restarted),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(restarted), base_url="http://b", headers=client.headers
        ) as again,
    ):
        assert await start(again) == "ann-3"


async def test_users_whose_names_look_like_ids_do_not_meet(
    client: httpx.AsyncClient, root: Path
) -> None:
    write_dataset(root, "ann-1/shapes")
    assert await start(client) == "ann-1"
    assert await start(client, User="ann-1") == "ann-1-1"
    assert await start(client) == "ann-2"


@pytest.mark.parametrize(
    ("refusal", "code"),
    [((403, "Forbidden", "exceeded quota"), 403), ((422, "Invalid", "spec.x: must be 1"), 400)],
)
async def test_a_refused_job_leaves_no_id(
    client: httpx.AsyncClient, kube: FakeKube, root: Path, refusal: tuple[int, str, str], code: int
) -> None:
    kube.refuse_create = status(*refusal)
    reply = await client.post("/study", params=STUDY)
    assert (reply.status_code, reply.json()) == (code, {"detail": refusal[2]})
    assert not list((root / "studies").iterdir())
    kube.refuse_create = None
    assert await start(client) == "ann-1"


async def test_an_id_whose_job_may_have_been_made_stays_taken(
    client: httpx.AsyncClient, kube: FakeKube
) -> None:
    kube.refuse_create = status(500, "InternalError", "timed out")
    assert (await client.post("/study", params=STUDY)).status_code == 503
    kube.refuse_create = None
    assert await start(client) == "ann-2"


async def test_a_job_of_an_unknown_workspace_is_passed_over(
    client: httpx.AsyncClient, kube: FakeKube
) -> None:
    kube.jobs[job_name("ann-1")] = {"metadata": {"name": job_name("ann-1"), "uid": "x"}}
    assert await start(client) == "ann-2"


@pytest.mark.parametrize(
    ("study", "slug"),
    [("ann-1", "ann-1"), ("A_B.c-12", "a-b-c-12"), ("x" * 128 + "-7", "x" * 41), ("9-1", "9-1")],
)
def test_job_names_are_labels(study: str, slug: str) -> None:
    name = job_name(study)
    assert name.startswith(slug + "-")
    assert len(name) <= 52
    assert name != job_name(study + "0")


def test_a_study_overrides_the_template() -> None:
    base = {"training": {"epochs": 1, "seed": 7}, "resources": {"gpus": 1}}
    over = {"training": {"epochs": 5}, "model": {"architecture": "FPN"}}
    assert merged(base, over) == {
        "training": {"epochs": 5, "seed": 7},
        "resources": {"gpus": 1},
        "model": {"architecture": "FPN"},
    }


@pytest.mark.parametrize(
    "template",
    [
        {"training": {"seed": -1}},
        {"nonsense": 1},
        {"workers": 2},
        {"artifacts": {"onDelete": "Delete"}},
        {"model": None},
    ],
)
def test_a_template_with_which_nothing_can_be_made_is_refused(template: dict[str, object]) -> None:
    if template == {"model": None}:
        check_template(template)  # replaced by the study's own
        return
    with pytest.raises(ValueError, match=r"seed|nonsense|workers|onDelete"):
        check_template(template)
