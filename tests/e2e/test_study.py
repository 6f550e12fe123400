"""S1, as a web application uses it: from POST /study to the .pt that torch and smp load alone."""

from __future__ import annotations

import datetime as dt
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.installation import Installation
from tests.support.cluster import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

RIGHT: dict[str, Any] = {
    "User": "alice", "FileName": "shapes", "Epochs": 3, "LR": 0.005, "ImgSize": 112,
    "BatchSize": 4, "Model": "Linknet", "TestSize": 0.25,
}  # fmt: skip


def study(kubeseg: Installation, **change: Any) -> httpx.Response:
    kubeseg.data_set("alice/shapes")
    with kubeseg.http as client:
        return client.post("/study", params=RIGHT | change)


def call(kubeseg: Installation, method: str, path: str, **params: Any) -> httpx.Response:
    with kubeseg.http as client:
        return client.request(method, path, params=params)


def losses(kubeseg: Installation, name: str) -> list[float]:
    found: list[float] = call(kubeseg, "GET", "/study", ModelName=name).json()["val_loss"]
    return found


def test_from_a_study_to_a_file_that_torch_and_smp_load_alone(
    kubeseg: Installation, tmp_path: Path
) -> None:
    reply = study(kubeseg)
    assert reply.status_code == 200, reply.text
    name = reply.json()["ModelName"]
    assert name.startswith("alice-")
    dt.datetime.fromisoformat(reply.json()["AnswerDate"])

    wait_for("three epochs", lambda: len(losses(kubeseg, name)) == 3, 240)
    metrics = call(kubeseg, "GET", "/study/", ModelName=name).json()
    assert set(metrics) == {"train_loss", "train_dice", "val_loss", "val_dice", "AnswerDate"}
    for key in ("train_loss", "train_dice", "val_loss", "val_dice"):
        assert len(metrics[key]) == 3
        assert all(math.isfinite(value) for value in metrics[key])

    path = call(kubeseg, "GET", "/checkstudy", ModelName=name, Epoch=2).json()["FilePath"]
    with kubeseg.http as client:
        reply = client.get(f"/v1/files/{path}", params={"format": "pt"})
    assert reply.status_code == 200
    file = tmp_path / "model.pt"
    file.write_bytes(reply.content)
    code = (
        "import sys, torch, segmentation_models_pytorch as smp\n"
        "state = torch.load(sys.argv[1], weights_only=True)\n"
        "model = smp.create_model('Linknet', sys.argv[2], encoder_weights=None, classes=3)\n"
        "model.load_state_dict(state)\n"
        "print('loaded', 'kubeseg_types' in sys.modules)\n"
    )
    template_encoder = "tu-lcnet_050"
    said = subprocess.run(
        [sys.executable, "-c", code, str(file), template_encoder],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.strip().endswith("loaded False")


def test_every_answer_is_the_same_after_the_facade_was_killed(kubeseg: Installation) -> None:
    name = study(kubeseg, Epochs=2).json()["ModelName"]
    wait_for("two epochs", lambda: len(losses(kubeseg, name)) == 2, 240)

    def answers() -> list[Any]:
        replies = [
            call(kubeseg, "GET", "/modeles"),
            call(kubeseg, "GET", "/study", ModelName=name),
            call(kubeseg, "GET", "/checkstudy", ModelName=name, Epoch=1),
            call(kubeseg, "GET", "/checkstudy", ModelName=name, Epoch=9),
            call(kubeseg, "GET", "/v1/datasets"),
        ]
        bodies = [reply.json() for reply in replies]
        for body in bodies:
            if isinstance(body, dict):
                body.pop("AnswerDate", None)
        return [(reply.status_code, body) for reply, body in zip(replies, bodies, strict=True)]

    kubeseg.wait_job(job_of(kubeseg, name), "Succeeded")
    before = answers()
    kubeseg.kubectl(
        "delete", "pod", "-l", "app.kubernetes.io/component=api", "--force", "--grace-period=0"
    )
    wait_for("the facade is back", lambda: ready(kubeseg), 60)
    assert answers() == before
    second = study(kubeseg, Epochs=1).json()["ModelName"]
    assert int(second.rsplit("-", 1)[1]) > int(name.rsplit("-", 1)[1]), "no id is given twice"


def ready(kubeseg: Installation) -> bool:
    try:
        return httpx.get(f"{kubeseg.url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def job_of(kubeseg: Installation, name: str) -> str:
    """The TrainingJob behind a study."""
    for item in kubeseg.items("tj"):
        if item["metadata"].get("annotations", {}).get("kubeseg.dev/study") == name:
            return str(item["metadata"]["name"])
    raise AssertionError(f"no TrainingJob for {name}")


def test_epochs_changed_and_the_study_deleted_while_it_runs(kubeseg: Installation) -> None:
    name = study(kubeseg, Epochs=500).json()["ModelName"]
    wait_for("an epoch", lambda: losses(kubeseg, name), 240)
    reply = call(kubeseg, "PUT", "/study", ModelName=name, Epochs=600)
    assert (reply.status_code, reply.json()["Description"]) == (200, "Successful")
    reply = call(kubeseg, "PUT", "/study", ModelName=name, Epochs=1)
    assert reply.json()["Description"] == "Study will be stopped after current epoch"
    kubeseg.wait_job(job_of(kubeseg, name), "Succeeded")
    done = len(losses(kubeseg, name))
    assert 1 <= done < 500
    # More epochs on a finished study: it goes on training.
    assert call(kubeseg, "PUT", "/study", ModelName=name, Epochs=500).status_code == 200
    wait_for("it goes on", lambda: len(losses(kubeseg, name)) > done, 120)

    path = call(kubeseg, "DELETE", "/study", ModelName=name).json()["FilePath"]
    assert path
    with kubeseg.http as client:
        assert client.get(f"/v1/files/{path}").status_code == 200
    # Afterwards the GETs still answer; PUT and a second DELETE don't.
    assert len(losses(kubeseg, name)) > done
    for method, path, params in (
        ("PUT", "/study", {"Epochs": 3}),
        ("DELETE", "/study", {}),
    ):
        reply = call(kubeseg, method, path, ModelName=name, **params)
        assert (reply.status_code, reply.json()) == (404, {"detail": "Study not found"})


def test_deleted_before_the_first_checkpoint(kubeseg: Installation) -> None:
    name = study(kubeseg, Epochs=5).json()["ModelName"]
    reply = call(kubeseg, "DELETE", "/study", ModelName=name)
    assert (reply.status_code, reply.json()["FilePath"]) == (200, None)


@pytest.mark.parametrize(
    "change",
    [
        {"Epochs": 0}, {"LR": 0}, {"LR": 1.5}, {"LR": "nan"}, {"ImgSize": 111}, {"ImgSize": 1049},
        {"BatchSize": 0}, {"BatchSize": 101}, {"TestSize": 0}, {"TestSize": 0.95},
        {"Model": "Unet3000"}, {"FileName": "nowhere"}, {"User": "../alice"},
    ],
    ids=lambda change: ",".join(f"{k}={v}" for k, v in change.items()),
)  # fmt: skip
def test_what_is_out_of_range_is_refused(kubeseg: Installation, change: dict[str, Any]) -> None:
    reply = study(kubeseg, **change)
    assert (reply.status_code, reply.json()) == (400, {"detail": "Wrong parameters"})


def test_what_is_missing_or_of_another_type_is_named(kubeseg: Installation) -> None:
    reply = study(kubeseg, Epochs="many")
    assert reply.status_code == 422
    assert "Epochs" in reply.text
    with kubeseg.http as client:
        reply = client.post("/study", params={k: v for k, v in RIGHT.items() if k != "LR"})
    assert reply.status_code == 422
    assert "LR" in reply.text


@pytest.mark.parametrize(
    ("method", "path", "params"),
    [
        ("GET", "/study", {}),
        ("PUT", "/study", {"Epochs": 3}),
        ("DELETE", "/study", {}),
        ("GET", "/checkstudy", {"Epoch": 1}),
    ],
)
def test_an_unknown_study(
    kubeseg: Installation, method: str, path: str, params: dict[str, Any]
) -> None:
    reply = call(kubeseg, method, path, ModelName="nobody-1", **params)
    assert (reply.status_code, reply.json()) == (404, {"detail": "Study not found"})


def test_models_on_offer(kubeseg: Installation) -> None:
    nine = call(kubeseg, "GET", "/modeles").json()["Description"]
    assert len(nine) == 9
    assert call(kubeseg, "DELETE", "/modeles", ModelName="PAN").status_code == 200
    assert "PAN" not in call(kubeseg, "GET", "/modeles").json()["Description"]
    assert study(kubeseg, Model="PAN").status_code == 400
    assert call(kubeseg, "DELETE", "/modeles", ModelName="PAN").status_code == 404
    assert call(kubeseg, "POST", "/modeles", ModelName="PAN").status_code == 200
    assert call(kubeseg, "POST", "/modeles", ModelName="Unet3000").status_code == 400
    assert sorted(call(kubeseg, "GET", "/modeles").json()["Description"]) == sorted(nine)


def test_no_token_and_a_wrong_one(kubeseg: Installation) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eA=="}):
        reply = httpx.get(f"{kubeseg.url}/study", params={"ModelName": "x-1"}, headers=headers)
        assert reply.status_code == 401
        assert "WWW-Authenticate" in reply.headers


def test_a_token_without_rights(kubeseg: Installation) -> None:
    kubeseg.kubectl("create", "serviceaccount", "nobody")
    token = kubeseg.kubectl("create", "token", "nobody").strip()
    headers = {"Authorization": f"Bearer {token}"}
    for method, path, params in (
        ("POST", "/study", RIGHT),
        ("GET", "/modeles", {}),
        ("GET", "/v1/datasets", {}),
    ):
        reply = httpx.request(method, f"{kubeseg.url}{path}", params=params, headers=headers)
        assert reply.status_code == 403, (path, reply.text)
