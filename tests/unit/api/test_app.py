from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from kubeseg_api import kube as kube_module
from kubeseg_api import settings as settings_module
from kubeseg_api.app import create_app
from kubeseg_api.kube import Cluster, ClusterConfigError, find_cluster, from_status
from kubeseg_api.probes import workspace_error
from kubeseg_api.settings import Settings, SettingsError, from_environment
from tests.support.fake_kube import ALL_VERBS, FakeKube


@pytest.fixture
async def lonely(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A facade whose API server is away."""
    app = create_app(settings, Cluster("http://127.0.0.1:1"))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://facade",
            headers={"Authorization": "Bearer admin"},
        ) as client,
    ):
        yield client


async def test_probes_need_no_token(client: httpx.AsyncClient, root: Path) -> None:
    del client.headers["Authorization"]
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).status_code == 200
    await asyncio.to_thread(root.rmdir)  # empty: the probe left nothing
    reply = await client.get("/readyz")
    assert reply.status_code == 503
    assert reply.json()["missing"] == [f"the workspace {root} is not there (not mounted?)"]
    assert (await client.get("/healthz")).status_code == 200


async def test_an_api_server_that_is_away_is_503(lonely: httpx.AsyncClient) -> None:
    ready = await lonely.get("/readyz")
    assert ready.status_code == 503
    assert "can't be reached" in ready.json()["missing"][0]
    assert (await lonely.get("/healthz")).status_code == 200
    study = await lonely.get("/study", params={"ModelName": "ann-1"})
    assert (study.status_code, set(study.json())) == (503, {"detail"})
    assert study.headers["Retry-After"]
    native = await lonely.get("/v1/jobs")
    assert (native.status_code, native.json()["status"]) == (503, 503)


async def test_an_api_server_in_trouble_is_503(client: httpx.AsyncClient, kube: FakeKube) -> None:
    kube.fail_with = 500
    assert (await client.get("/readyz")).status_code == 503
    reply = await client.get("/v1/jobs")
    assert (reply.status_code, "etcd is away" in reply.json()["detail"]) == (503, True)


@pytest.mark.parametrize(
    ("status", "body", "expected", "kind"),
    [
        (401, "{}", 401, "unauthorized"),
        (403, '{"message": "quota"}', 403, "forbidden"),
        (404, "no json", 404, "not-found"),
        (409, '{"reason": "AlreadyExists"}', 409, "already-exists"),
        (409, '{"reason": "Conflict"}', 409, "conflict"),
        (422, '{"message": "spec.x: must"}', 400, "refused-by-api-server"),
        (429, "[]", 503, "unavailable"),
        (500, "", 503, "unavailable"),
    ],
)
def test_answers_of_the_api_server(status: int, body: str, expected: int, kind: str) -> None:
    error = from_status(status, body)
    assert (error.status, error.kind) == (expected, kind)


async def test_jobs_pass_through(client: httpx.AsyncClient, kube: FakeKube) -> None:
    kube.jobs["a"] = {"metadata": {"name": "a", "uid": "1"}, "status": {"phase": "Running"}}
    assert (await client.get("/v1/jobs")).json() == {"items": [kube.jobs["a"]]}
    assert (await client.get("/v1/jobs/a")).json() == kube.jobs["a"]
    missing = await client.get("/v1/jobs/b")
    assert (missing.status_code, 'TrainingJob "b"' in missing.json()["detail"]) == (404, True)


async def test_calls_without_a_token_use_the_lent_one_if_there_is_one(
    settings: Settings, kube: FakeKube, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    app = create_app(dataclasses.replace(settings, anonymous_token_file=file), Cluster(kube.url))
    kube.tokens["lent"] = {"trainingjobs": ALL_VERBS}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://f") as client,
    ):
        assert (await client.get("/v1/jobs")).status_code == 503
        file.write_text("lent\n")
        assert (await client.get("/v1/jobs")).status_code == 200
        assert (await client.get("/v1/datasets")).status_code == 403
        wrong = {"Authorization": "Bearer expired"}
        assert (await client.get("/v1/jobs", headers=wrong)).status_code == 401
        basic = {"Authorization": "Basic YTpi"}
        assert (await client.get("/v1/jobs", headers=basic)).status_code == 401


async def test_errors_of_routing_speak_their_contract(client: httpx.AsyncClient) -> None:
    native = await client.get("/v1/nothing")
    assert (native.status_code, native.headers["content-type"]) == (404, "application/problem+json")
    assert (await client.get("/nothing")).json() == {"detail": "Not Found"}
    assert (await client.patch("/study")).status_code == 405
    wrong = await client.put("/v1/datasets/a?replace=perhaps", content=b"")
    assert (wrong.status_code, "query.replace" in wrong.json()["detail"]) == (422, True)


async def test_an_unexpected_error_is_told_and_logged(
    client: httpx.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def explode(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(app.state.datasets, "list_all", explode)
    reply = await client.get("/v1/datasets")
    assert (reply.status_code, reply.json()["status"]) == (500, 500)
    assert "boom" not in reply.text


async def test_every_parameter_and_reply_is_described(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    seen = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert operation["description"], where
            for parameter in operation.get("parameters", []):
                assert parameter.get("description"), (where, parameter["name"])
            for status, reply in operation["responses"].items():
                assert reply["description"] not in {"", "Successful Response"}, (where, status)
                seen += 1
            if path not in {"/healthz", "/readyz"}:
                assert operation["security"], where
    assert seen > 60
    text = json.dumps(document)
    for reference in set(text.split('"#/components/schemas/')[1:]):
        assert reference.split('"')[0] in document["components"]["schemas"]
    page = (await client.get("/docs")).text
    assert "http://" not in page
    assert "https://" not in page
    assert "POST /study" in page


async def test_operation_ids_are_unique(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    ids = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(ids) == len(set(ids))


def test_the_server_does_not_load_torch() -> None:
    code = (
        "import sys, kubeseg_api.main; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"KUBESEG_MAX_UPLOAD_BYTES": "10G"}, "KUBESEG_MAX_UPLOAD_BYTES must be a whole number"),
        ({"KUBESEG_PORT": "0"}, "KUBESEG_PORT"),
        ({"KUBESEG_STUDY_TEMPLATE": "{"}, "KUBESEG_STUDY_TEMPLATE must be JSON"),
        ({"KUBESEG_STUDY_TEMPLATE": "[]"}, "must be a JSON object"),
    ],
)
def test_wrong_settings_name_their_variable(environment: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        from_environment(environment)


def test_settings_come_from_the_environment() -> None:
    found = from_environment(
        {
            "POD_IP": "127.1.0.7",
            "POD_NAMESPACE": "team",
            "KUBESEG_WORKSPACE": "/data",
            "KUBESEG_STUDY_TEMPLATE": '{"resources": {"gpus": 1}}',
            "KUBESEG_ANONYMOUS_TOKEN_FILE": "",
        }
    )
    assert (found.bind, found.namespace, found.workspace) == ("127.1.0.7", "team", Path("/data"))
    assert found.study_template == {"resources": {"gpus": 1}}
    assert found.anonymous_token_file is None
    assert found.max_upload_bytes == settings_module.DEFAULT_MAX_UPLOAD


def test_where_the_api_server_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text(
        json.dumps(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "k", "namespace": "team"}}],
                "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:8001/"}}],
            }
        )
    )
    assert find_cluster({"KUBECONFIG": str(config)}) == Cluster(
        "http://127.0.0.1:8001", None, "team"
    )
    config.write_text('{"current-context": "gone", "contexts": []}')
    with pytest.raises(ClusterConfigError, match="no context 'gone'"):
        find_cluster({"KUBECONFIG": str(config)})
    monkeypatch.setattr(kube_module, "SERVICE_ACCOUNT", tmp_path)
    with pytest.raises(ClusterConfigError, match="kube-root-ca"):
        find_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1"})


def test_a_workspace_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "not there" in str(workspace_error(tmp_path / "file"))
    assert workspace_error(tmp_path) is None
