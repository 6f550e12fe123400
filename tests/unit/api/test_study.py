from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from kubeseg_api.app import create_app
from kubeseg_api.kube import Cluster
from kubeseg_api.services.studies import check_template, job_name, merged
from kubeseg_api.settings import Settings
from kubeseg_types.spec import Architecture, TrainingJobSpec
from tests.support.fake_kube import EVERYTHING, FakeKube, status
from tests.support.run_folders import part, weights, write_dataset, write_run

STUDY = {
    "User": "ann", "FileName": "shapes", "Epochs": 5, "LR": 0.01, "ImgSize": 256, "BatchSize": 4,
    "Model": "Unet", "TestSize": 0.25,
}  # fmt: skip
STOPS = "Study will be stopped after current epoch"


@pytest.fixture(autouse=True)
def dataset(root: Path) -> None:
    write_dataset(root, "ann/shapes")


async def start(client: httpx.AsyncClient, **changes: object) -> str:
    reply = await client.post("/study", params={**STUDY, **changes})
    assert reply.status_code == 200, reply.text
    return str(reply.json()["ModelName"])


def uid(kube: FakeKube, study: str) -> str:
    return str(kube.jobs[job_name(study)]["metadata"]["uid"])


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
    client: httpx.AsyncClient, kube: FakeKube, root: Path, name: str, value: object
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
        ("TestSize", 0.9), ("TestSize", 0.0001), *(("Model", a.value) for a in Architecture),
    ],
)  # fmt: skip
async def test_the_edges_of_the_ranges_are_inside(
    client: httpx.AsyncClient, kube: FakeKube, name: str, value: object
) -> None:
    study = await start(client, **{name: value})
    TrainingJobSpec.model_validate(kube.jobs[job_name(study)]["spec"])


@pytest.mark.parametrize(
    ("name", "value"),
    [("Epochs", "many"), ("Epochs", 1.5), ("LR", "fast"), ("ImgSize", ""), ("TestSize", None)],
)
async def test_ill_typed_or_missing_parameters_are_422(
    client: httpx.AsyncClient, name: str, value: object
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
    "template", [{"training": {"seed": -1}}, {"nonsense": 1}, {"workers": 2}, {"model": None}]
)
def test_a_template_with_which_nothing_can_be_made_is_refused(template: dict[str, object]) -> None:
    if template == {"model": None}:
        check_template(template)  # replaced by the study's own
        return
    with pytest.raises(ValueError, match=r"seed|nonsense|workers"):
        check_template(template)


# ------------------------------------------------------------------ PUT


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


# ------------------------------------------------------------------ GET, DELETE, checkstudy


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


# ------------------------------------------------------------------ modeles, rights


async def test_models_are_offered_and_withdrawn(
    client: httpx.AsyncClient, app: FastAPI, root: Path
) -> None:
    every = [a.value for a in Architecture]
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


async def test_models_withdrawn_at_once_are_all_withdrawn(client: httpx.AsyncClient) -> None:
    every = [a.value for a in Architecture]
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
    params: dict[str, object],
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
