from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from kubeseg_api.services.models import INITIAL
from kubeseg_api.services.studies import job_name
from kubeseg_types.spec import Architecture
from tests.support.fake_kube import EVERYTHING, FakeKube
from tests.support.run_folders import part, weights, write_dataset, write_run
from tests.support.studies import STUDY, start, uid

STOPS = "Study will be stopped after current epoch"


@pytest.fixture(autouse=True)
def dataset(root: Path) -> None:
    write_dataset(root, "ann/shapes")


@pytest.mark.parametrize(
    ("phase", "done", "epochs", "stop", "said", "spec"),
    [
        ("Running", 3, 10, False, "Successful", {"epochs": 10}),
        ("Running", 3, 4, False, "Successful", {"epochs": 4}),
        ("Running", 3, 3, False, STOPS, {"epochs": 3}),
        ("Running", 3, 1, False, STOPS, {"epochs": 1}),
        ("Running", 0, 1, False, "Successful", {"epochs": 1}),
        (None, 0, 2, False, "Successful", {"epochs": 2}),
        ("Succeeded", 5, 9, False, "Successful", {"epochs": 9}),
        ("Succeeded", 5, 9, True, "Successful", {"epochs": 9, "stop": False}),
        ("Succeeded", 5, 5, True, STOPS, {"epochs": 5, "stop": True}),
        ("Suspended", 2, 9, False, "Successful", {"epochs": 9}),
        ("Failed", 2, 2, False, STOPS, {"epochs": 2}),
    ],
)  # fmt: skip
async def test_epochs_can_be_changed(
    client: httpx.AsyncClient,
    *,
    kube: FakeKube,
    root: Path,
    phase: str | None,
    done: int,
    epochs: int,
    stop: bool,
    said: str,
    spec: dict[str, object],
) -> None:
    study = await start(client)
    job = kube.jobs[job_name(study)]
    if phase:
        job["status"] = {"phase": phase, "progress": {"epoch": max(0, done - 1)}}
    if stop:
        job["spec"]["stop"] = True
    write_run(root, job_name(study), uid(kube, study), done)
    reply = await client.put("/study", params={"ModelName": study, "Epochs": epochs})
    assert reply.status_code == 200
    assert set(reply.json()) == {"AnswerDate", "Description"}
    assert reply.json()["Description"] == said
    changed = kube.jobs[job_name(study)]["spec"]
    assert changed["training"] == job["spec"]["training"] | {"epochs": spec["epochs"]}
    assert changed.get("stop") is spec.get("stop")


async def test_epochs_done_counts_what_status_knows(
    client: httpx.AsyncClient, kube: FakeKube, root: Path
) -> None:
    study = await start(client)
    kube.jobs[job_name(study)]["status"] = {"phase": "Running", "progress": {"epoch": 4}}
    write_run(root, job_name(study), uid(kube, study), 3)
    reply = await client.put("/study", params={"ModelName": study, "Epochs": 4})
    assert reply.json()["Description"] == STOPS


@pytest.mark.parametrize("epochs", [0, -3, 100_001])
async def test_epochs_out_of_range_are_400(client: httpx.AsyncClient, epochs: int) -> None:
    study = await start(client)
    reply = await client.put("/study", params={"ModelName": study, "Epochs": epochs})
    assert (reply.status_code, reply.json()) == (400, {"detail": "Wrong parameters"})


async def test_a_failed_study_does_not_go_on(client: httpx.AsyncClient, kube: FakeKube) -> None:
    study = await start(client)
    kube.jobs[job_name(study)]["status"] = {
        "phase": "Failed",
        "conditions": [
            {"type": "Failed", "status": "True", "reason": "InvalidDataset", "message": "no masks",
             "lastTransitionTime": "2026-01-01T00:00:00Z"}
        ],
    }  # fmt: skip
    reply = await client.put("/study", params={"ModelName": study, "Epochs": 9})
    assert reply.status_code == 409
    assert "no masks" in reply.json()["detail"]
    assert kube.jobs[job_name(study)]["spec"]["training"]["epochs"] == 5


CALLS = [
    ("GET", "/study", {}),
    ("PUT", "/study", {"Epochs": 3}),
    ("DELETE", "/study", {}),
    ("GET", "/checkstudy", {"Epoch": 1}),
]


@pytest.mark.parametrize("study", ["ann-7", "", "../ann-1", "x\x00", "a/b", "é" * 300])
@pytest.mark.parametrize(("method", "path", "params"), CALLS)
@pytest.mark.parametrize("slash", ["", "/"])
async def test_unknown_studies_are_404(
    client: httpx.AsyncClient,
    *,
    method: str,
    path: str,
    params: dict[str, int],
    study: str,
    slash: str,
) -> None:
    reply = await client.request(method, path + slash, params={"ModelName": study, **params})
    assert (reply.status_code, reply.json()) == (404, {"detail": "Study not found"})


async def test_a_study_that_has_not_begun(client: httpx.AsyncClient) -> None:
    study = await start(client)
    body = (await client.get("/study", params={"ModelName": study})).json()
    del body["AnswerDate"]
    assert body == {"train_loss": [], "train_dice": [], "val_loss": [], "val_dice": []}
    missing = await client.get("/checkstudy", params={"ModelName": study, "Epoch": 1})
    assert (missing.status_code, missing.json()["detail"]) == (404, "Study not found")
    gone = await client.delete("/study", params={"ModelName": study})
    assert (gone.status_code, gone.json()["FilePath"]) == (200, None)


async def test_one_number_for_each_epoch_and_status_fills_in_the_newest(
    client: httpx.AsyncClient, kube: FakeKube, root: Path
) -> None:
    study = await start(client)
    job = kube.jobs[job_name(study)]
    write_run(root, job["metadata"]["name"], uid(kube, study), 2)
    write_run(root, job["metadata"]["name"], uid(kube, study), 3, attempt=2, since=3)
    write_run(root, job["metadata"]["name"], uid(kube, study), 0, attempt=3)  # no epoch yet
    last = {"epoch": 4, "trainLoss": 0.1, "trainDice": 0.9, "valLoss": 0.2, "valDice": 0.8}
    job["status"] = {"phase": "Running", "metrics": {"last": last}}
    body = (await client.get("/study/", params={"ModelName": study})).json()
    assert body["train_dice"] == [*(part(0.5 + n / 1000).dice for n in (1, 2, 3)), 0.9]
    assert body["val_loss"] == [*(part(0.4 + n / 1000).loss for n in (1, 2, 3)), 0.2]
    job["status"]["metrics"]["last"]["epoch"] = 3
    body = (await client.get("/study", params={"ModelName": study})).json()
    assert len(body["val_dice"]) == 3


async def test_weights_by_epoch_and_after_deletion(
    client: httpx.AsyncClient, kube: FakeKube, root: Path
) -> None:
    study = await start(client)
    name = job_name(study)
    paths = write_run(root, name, uid(kube, study), 3)
    (root / paths[2]).unlink()  # named in the history, but gone
    (root / paths[0]).write_bytes(weights(1)[:-1])  # not complete
    expected = {0: None, 1: None, 2: paths[1], 3: None, 4: None, -1: None, 10**20: None}
    for deleted in (False, True):
        for epoch, path in expected.items():
            reply = await client.get("/checkstudy", params={"ModelName": study, "Epoch": epoch})
            if path is None:
                assert (reply.status_code, reply.json()) == (404, {"detail": "Study not found"})
            else:
                assert reply.json()["FilePath"] == path
                served = await client.get(f"/v1/files/{path}")
                assert served.content == (root / path).read_bytes()
        curves = (await client.get("/study", params={"ModelName": study})).json()
        assert len(curves["train_loss"]) == 3
        if not deleted:
            gone = await client.delete("/study/", params={"ModelName": study})
            assert gone.json()["FilePath"] == paths[1]
    for method, more in (("DELETE", {}), ("PUT", {"Epochs": 9})):
        reply = await client.request(method, "/study", params={"ModelName": study, **more})
        assert (reply.status_code, reply.json()) == (404, {"detail": "Study not found"})


async def test_a_history_may_not_name_files_of_others(
    client: httpx.AsyncClient, kube: FakeKube, root: Path
) -> None:
    study = await start(client)
    [path] = write_run(root, job_name(study), uid(kube, study), 1)
    other = root / "runs/other/u1/secret.safetensors"
    other.parent.mkdir(parents=True)
    other.write_bytes((root / path).read_bytes())
    (root / path).unlink()
    (root / path).symlink_to(other)
    reply = await client.get("/checkstudy", params={"ModelName": study, "Epoch": 1})
    assert reply.status_code == 404
    assert (await client.get(f"/v1/files/{path}")).status_code == 404


async def test_a_torn_last_line_is_left_out_and_a_torn_other_is_told(
    client: httpx.AsyncClient, kube: FakeKube, root: Path
) -> None:
    study = await start(client)
    write_run(root, job_name(study), uid(kube, study), 2)
    run = root / "runs" / job_name(study) / uid(kube, study)
    file = run / "attempts/0001-0001/metrics.jsonl"
    whole = file.read_text()
    file.write_text(whole + whole[:30])
    body = (await client.get("/study", params={"ModelName": study})).json()
    assert len(body["val_dice"]) == 2
    file.write_text("nonsense\n" + whole)
    reply = await client.get("/study", params={"ModelName": study})
    assert reply.status_code == 500
    assert "metrics.jsonl, line 1" in reply.json()["detail"]


async def test_models_are_offered_and_withdrawn(
    client: httpx.AsyncClient, app: FastAPI, root: Path
) -> None:
    every = list(INITIAL)
    assert (await client.get("/modeles")).json()["Description"] == every
    gone = await client.delete("/modeles/", params={"ModelName": "FPN"})
    assert (gone.status_code, gone.json()["Description"]) == (200, "Successful")
    assert "FPN" not in (await client.get("/modeles/")).json()["Description"]
    refused = await client.post("/study", params={**STUDY, "Model": "FPN"})
    assert (refused.status_code, refused.json()["detail"]) == (400, "Wrong parameters")
    assert (await client.delete("/modeles", params={"ModelName": "FPN"})).status_code == 404
    assert (await client.delete("/modeles", params={"ModelName": "X"})).status_code == 404
    assert (await client.post("/modeles", params={"ModelName": "X"})).status_code == 400
    for _ in range(2):
        assert (await client.post("/modeles", params={"ModelName": "FPN"})).status_code == 200
    assert (await client.get("/modeles")).json()["Description"] == every


async def test_what_the_trainer_knows_beyond_the_first_nine_can_be_offered(
    client: httpx.AsyncClient,
) -> None:
    others = [name.value for name in Architecture if name.value not in INITIAL]
    assert len(INITIAL) == 9
    assert others == ["UPerNet", "Segformer", "DPT"]
    for name in others:
        assert (await client.post("/study", params={**STUDY, "Model": name})).status_code == 400
        assert (await client.post("/modeles", params={"ModelName": name})).status_code == 200
    assert (await client.get("/modeles")).json()["Description"] == [*INITIAL, *others]
    for name in others:
        assert await start(client, Model=name)


async def test_models_withdrawn_at_once_are_all_withdrawn(client: httpx.AsyncClient) -> None:
    every = list(INITIAL)
    await asyncio.gather(*(client.delete("/modeles", params={"ModelName": m}) for m in every[1:]))
    assert (await client.get("/modeles")).json()["Description"] == every[:1]


@pytest.mark.parametrize(
    ("method", "path", "params"),
    [*CALLS, ("POST", "/study", STUDY), ("GET", "/modeles", {}),
     ("POST", "/modeles", {"ModelName": "FPN"}), ("DELETE", "/modeles", {"ModelName": "FPN"})],
)  # fmt: skip
async def test_the_callers_token_decides(
    client: httpx.AsyncClient,
    *,
    kube: FakeKube,
    root: Path,
    method: str,
    path: str,
    params: dict[str, Any],
) -> None:
    study = await start(client)
    write_run(root, job_name(study), uid(kube, study), 1)
    params = {"ModelName": study} | params
    for token, code in (("nobody", 403), ("expired", 401), ("", 401)):
        client.headers["Authorization"] = f"Bearer {token}"
        reply = await client.request(method, path, params=params)
        assert reply.status_code == code
        assert set(reply.json()) == {"detail"}
        assert ("WWW-Authenticate" in reply.headers) == (code == 401)
    del client.headers["Authorization"]
    assert (await client.request(method, path, params=params)).status_code == 401
    kube.tokens["some"] = EVERYTHING
    client.headers["Authorization"] = "Bearer some"
    kube.requests.clear()
    assert (await client.request(method, path, params=params)).status_code == 200
    assert {token for token, *_ in kube.requests} == {"some"}
