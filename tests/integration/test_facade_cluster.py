"""The facade against a real API server: its CRD, its RBAC, its tokens. No operator runs here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from kubeseg_api.services.models import INITIAL
from kubeseg_api.services.studies import job_name
from tests.support.cluster import ROOT, Namespace, TestCluster, condition, wait_for
from tests.support.facade import Facade, start_facade
from tests.support.run_folders import dataset_zip, write_run

pytestmark = pytest.mark.cluster

CRD = ROOT / "charts/kubeseg/files/trainingjobs.yaml"
STUDY: dict[str, Any] = {
    "User": "ann", "FileName": "shapes", "Epochs": 5, "LR": 0.01, "ImgSize": 112, "BatchSize": 1,
    "Model": "PAN", "TestSize": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def crd(cluster: TestCluster) -> None:
    """The CRD, unless it is there already, perhaps Helm's."""
    name = "customresourcedefinition/trainingjobs.kubeseg.dev"
    if not cluster.kubectl("get", name, "--ignore-not-found"):
        cluster.kubectl("apply", "-f", str(CRD))

    def established() -> bool:
        # Not `kubectl wait`: it fails where there is no status yet.
        found = json.loads(cluster.kubectl("get", name, "-o", "json"))
        return condition(found, "Established") == "True"

    wait_for("the CRD is established", established)


def binding(namespace: str, account: str, role: str) -> dict[str, object]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": account},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": role,
        },
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    }


@pytest.fixture
def accounts(namespace: Namespace, crd: None) -> Iterator[dict[str, str]]:
    """Tokens of service accounts with the chart's own roles, and of one with none."""
    release = f"roles-{namespace.name}"
    rendered = namespace.cluster.helm(
        "template", release, str(ROOT / "charts/kubeseg"),
        "--show-only", "templates/userroles.yaml",
        "--set", "rbac.aggregate=false", "--set", f"fullnameOverride={release}",
    )  # fmt: skip
    namespace.cluster.kubectl("apply", "-f", "-", stdin=rendered)
    names = ("user", "viewer", "nobody")
    namespace.apply(
        *(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
            for name in names
        ),
        *(binding(namespace.name, name, f"{release}-{name}") for name in names[:2]),
    )
    tokens = {name: namespace.kubectl("create", "token", name).strip() for name in names}
    yield tokens
    namespace.cluster.kubectl("delete", "-f", "-", stdin=rendered)


@pytest.fixture
async def facade(
    namespace: Namespace, tmp_path: Path, accounts: dict[str, str]
) -> AsyncIterator[Facade]:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    running: list[Facade] = []
    yield await start_facade(
        namespace.cluster.kubeconfig, workspace, running, POD_NAMESPACE=namespace.name
    )
    for each in running:
        each.end()


@pytest.fixture
async def client_of(
    facade: Facade, accounts: dict[str, str]
) -> AsyncIterator[Callable[[str], httpx.AsyncClient]]:
    async with AsyncExitStack() as stack:
        clients: dict[str, httpx.AsyncClient] = {}
        for name, token in (accounts | {"forged": "abc.def.ghi"}).items():
            headers = {"Authorization": f"Bearer {token}"}
            clients[name] = await stack.enter_async_context(
                httpx.AsyncClient(base_url=facade.url, headers=headers, timeout=30)
            )
        clients["silent"] = await stack.enter_async_context(httpx.AsyncClient(base_url=facade.url))
        # The API server needs a moment to see new role bindings.
        for _ in range(100):
            reply = await clients["user"].put("/v1/datasets/ann/shapes", content=dataset_zip())
            if reply.status_code != 403:
                break
            await asyncio.sleep(0.1)
        assert reply.status_code == 201, reply.text
        yield clients.__getitem__


Clients = Callable[[str], httpx.AsyncClient]


async def test_a_study_lives_as_a_training_job(
    client_of: Clients, namespace: Namespace, tmp_path: Path
) -> None:
    user = client_of("user")
    study = (await user.post("/study", params=STUDY)).json()["ModelName"]
    assert study == "ann-1"
    job = namespace.get("tj", job_name(study))
    assert job["spec"]["training"]["epochs"] == 5
    assert job["spec"]["training"]["optimizer"]["name"] == "AdamW", "the server's defaults"
    paths = write_run(tmp_path / "workspace", job_name(study), job["metadata"]["uid"], 2)

    told = await user.put("/study", params={"ModelName": study, "Epochs": 9})
    assert (told.status_code, told.json()["Description"]) == (200, "Successful"), told.text
    changed = namespace.get("tj", job_name(study))
    assert changed["spec"]["training"]["epochs"] == 9
    assert changed["metadata"]["generation"] == 2
    told = await user.put("/study", params={"ModelName": study, "Epochs": 2})
    assert told.json()["Description"] == "Study will be stopped after current epoch"

    last = {"epoch": 3, "trainLoss": 0.5, "trainDice": 0.5, "valLoss": 0.5, "valDice": 0.25}
    patch = json.dumps({"status": {"phase": "Running", "metrics": {"last": last}}})
    namespace.kubectl(
        "patch", "tj", job_name(study), "--subresource=status", "--type=merge", "-p", patch
    )
    curves = (await user.get("/study", params={"ModelName": study})).json()
    assert len(curves["train_loss"]) == 3
    assert curves["val_dice"][2] == 0.25

    gone = await user.delete("/study", params={"ModelName": study})
    assert gone.json()["FilePath"] == paths[1]
    assert namespace.get("tj", job_name(study)) == {}
    assert (await user.delete("/study", params={"ModelName": study})).status_code == 404
    curves = (await user.get("/study", params={"ModelName": study})).json()
    assert len(curves["train_loss"]) == 2
    assert (await user.get(f"/v1/files/{gone.json()['FilePath']}")).status_code == 200


@pytest.mark.parametrize(
    ("who", "code"), [("nobody", 403), ("forged", 401), ("silent", 401), ("viewer", 0)]
)
async def test_rbac_decides(client_of: Clients, namespace: Namespace, who: str, code: int) -> None:
    study = (await client_of("user").post("/study", params=STUDY)).json()["ModelName"]
    named = {"ModelName": study}
    client = client_of(who)
    reads = {
        "/study": named,
        "/modeles": {},
        "/v1/datasets": {},
        "/v1/datasets/ann/shapes": {},
        "/v1/jobs": {},
        f"/v1/jobs/{job_name(study)}": {},
    }
    for path, params in reads.items():
        reply = await client.get(path, params=params)
        assert reply.status_code == (code or 200), (path, reply.text)
        assert ("WWW-Authenticate" in reply.headers) == (code == 401)
    hidden = await client.get(f"/v1/files/runs/{job_name(study)}/uid/none")
    assert hidden.status_code == (code or 404)
    writes = [
        ("POST", "/study", STUDY),
        ("PUT", "/study", named | {"Epochs": 7}),
        ("DELETE", "/study", named),
        ("POST", "/modeles", {"ModelName": "FPN"}),
        ("DELETE", "/modeles", {"ModelName": "FPN"}),
        ("PUT", "/v1/datasets/mine", {}),
        ("DELETE", "/v1/datasets/ann/shapes", {}),
    ]
    for method, path, params in writes:
        content = dataset_zip() if path == "/v1/datasets/mine" else None
        reply = await client.request(method, path, params=params, content=content)
        assert reply.status_code == (code or 403), (method, path, reply.text)
    assert namespace.get("tj", job_name(study))["spec"]["training"]["epochs"] == 5
    assert len(namespace.items("tj")) == 1


async def test_each_legal_study_passes_the_crd(client_of: Clients, namespace: Namespace) -> None:
    changes: list[dict[str, Any]] = [
        *({"Model": name} for name in INITIAL),
        {"Epochs": 100_000, "LR": 1, "ImgSize": 1048, "BatchSize": 100, "TestSize": 0.9},
        {"Epochs": 1, "LR": 1e-9, "ImgSize": 112, "BatchSize": 1, "TestSize": 1e-6},
    ]
    replies = await asyncio.gather(
        *(client_of("user").post("/study", params=STUDY | change) for change in changes)
    )
    assert [reply.status_code for reply in replies] == [200] * len(changes)
    ids = {reply.json()["ModelName"] for reply in replies}
    assert ids == {f"ann-{n + 1}" for n in range(len(changes))}
    assert len(namespace.items("tj")) == len(changes)


async def test_a_quota_of_the_namespace_is_told_and_leaves_no_id(
    client_of: Clients, namespace: Namespace, tmp_path: Path
) -> None:
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "few"},
            "spec": {"hard": {"count/trainingjobs.kubeseg.dev": "0"}},
        }
    )
    namespace.wait("resourcequota", "few", lambda quota: quota.get("status", {}).get("hard"))
    reply = await client_of("user").post("/study", params=STUDY)
    assert reply.status_code == 403, reply.text
    assert "exceeded quota" in reply.json()["detail"]
    assert not await asyncio.to_thread(lambda: list((tmp_path / "workspace/studies").iterdir()))


async def test_a_data_set_is_kept_as_long_as_a_job_wants_it(client_of: Clients) -> None:
    user = client_of("user")
    study = (await user.post("/study", params=STUDY)).json()["ModelName"]
    reply = await user.delete("/v1/datasets/ann/shapes")
    assert (reply.status_code, reply.json()["jobs"]) == (409, [job_name(study)])
    await user.delete("/study", params={"ModelName": study})
    assert (await user.delete("/v1/datasets/ann/shapes")).status_code == 204
