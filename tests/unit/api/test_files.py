from __future__ import annotations

import base64
import hashlib
from io import BytesIO
from pathlib import Path

import httpx
import pytest

from tests.support.fake_kube import ALL_VERBS, FakeKube
from tests.support.run_folders import write_run


@pytest.fixture
def weights(root: Path) -> str:
    return write_run(root, "job", "uid-1", 2)[1]


async def test_a_file_comes_with_its_digest_and_in_ranges(
    client: httpx.AsyncClient, root: Path, weights: str
) -> None:
    content = (root / weights).read_bytes()
    digest = hashlib.sha256(content)
    for _ in range(2):
        reply = await client.get(f"/v1/files/{weights}")
        assert (reply.status_code, reply.content) == (200, content)
        assert reply.headers["X-Checksum-Sha256"] == digest.hexdigest()
        encoded = base64.b64encode(digest.digest()).decode()
        assert reply.headers["Repr-Digest"] == f"sha-256=:{encoded}:"
        assert reply.headers["Content-Length"] == str(len(content))
    part = await client.get(f"/v1/files/{weights}", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content[10:20])
    head = await client.head(f"/v1/files/{weights}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["X-Checksum-Sha256"] == digest.hexdigest()


@pytest.mark.parametrize(("suffix", "kind"), [("jpg", "image/jpeg"), ("png", "image/png")])
async def test_a_picture_is_shown_in_the_browser(
    client: httpx.AsyncClient, root: Path, weights: str, suffix: str, kind: str
) -> None:
    folder = root / "runs/job/uid-1/samples/00002"
    folder.mkdir(parents=True)
    (folder / f"a.{suffix}").write_bytes(b"a picture")
    reply = await client.get(f"/v1/files/runs/job/uid-1/samples/00002/a.{suffix}")
    assert (reply.status_code, reply.content) == (200, b"a picture")
    assert reply.headers["Content-Type"] == kind
    assert reply.headers["Content-Disposition"] == f'inline; filename="a.{suffix}"'
    assert reply.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_file_that_changed_has_another_digest(
    client: httpx.AsyncClient, root: Path, weights: str
) -> None:
    await client.get(f"/v1/files/{weights}")
    (root / weights).write_bytes(b"new")
    reply = await client.get(f"/v1/files/{weights}")
    assert reply.headers["X-Checksum-Sha256"] == hashlib.sha256(b"new").hexdigest()


@pytest.mark.parametrize("name", ["model.onnx", "README.md", "curves.svg", "samples/a.jpg"])
async def test_all_files_of_the_model_folder_are_handed_out(
    client: httpx.AsyncClient, root: Path, weights: str, name: str
) -> None:
    assert weights
    file = root / "runs/job/uid-1/model" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(name.encode())
    reply = await client.get(f"/v1/files/runs/job/uid-1/model/{name}")
    assert (reply.status_code, reply.content) == (200, name.encode())
    assert reply.headers["X-Checksum-Sha256"] == hashlib.sha256(name.encode()).hexdigest()
    # A drawing may hold a program: to be saved, never run in the facade's origin.
    saved = reply.headers["Content-Disposition"].startswith("attachment")
    assert saved == (not name.endswith(".jpg"))


@pytest.mark.slow
async def test_pt_is_a_plain_state_dict(
    client: httpx.AsyncClient, root: Path, weights: str, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    reply = await client.get(f"/v1/files/{weights}?format=pt")
    assert reply.status_code == 200
    assert reply.headers["Content-Length"] == str(len(reply.content))
    assert reply.headers["X-Checksum-Sha256"] == hashlib.sha256(reply.content).hexdigest()
    assert 'filename="00002.pt"' in reply.headers["Content-Disposition"]
    state = torch.load(BytesIO(reply.content), weights_only=True)
    expected = load_file(root / weights)
    assert type(state) is dict
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    assert list((tmp_path / "tmp").iterdir()) == []

    (root / weights).write_bytes(b"not weights")
    broken = await client.get(f"/v1/files/{weights}?format=pt")
    assert (broken.status_code, "can't be converted" in broken.text) == (500, True)
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_pt_is_for_weights_only(client: httpx.AsyncClient, root: Path, weights: str) -> None:
    reply = await client.get("/v1/files/runs/job/uid-1/run.json?format=pt")
    assert (reply.status_code, reply.json()["type"].rsplit("/", 1)[1]) == (400, "not-weights")
    assert (await client.get(f"/v1/files/{weights}?format=zip")).status_code == 422


@pytest.mark.parametrize(
    "path",
    [
        "runs/job/uid-1/none.json", "runs/job/uid-1", "runs/job/uid-1/", "runs/job", "runs",
        "runs/job/uid-1/attempts", "studies/ann-1/study.json", "datasets/ann/images/a.jpg",
        "runs/job/uid-1/..%2f..%2f..%2fsecret", "runs/job/uid-1/%2e%2e/uid-1/run.json",
        "runs/job/uid-1//run.json", "%2fetc/passwd", "runs/job/uid-1/run.json%00",
        "runs/job/uid-1/run.json/x", "runs/job/uid-1/out", "runs/job/uid-1/loop",
        "runs/job/uid-1/other", "runs/job/away/secret", "runs\\job\\uid-1\\run.json",
        "runs/job/uid-1/" + "x" * 300,
    ],
)  # fmt: skip
async def test_what_is_no_file_of_a_run_is_404(
    client: httpx.AsyncClient, root: Path, weights: str, path: str
) -> None:
    assert weights
    (root / "secret").write_text("secret")
    write_run(root, "theirs", "uid-2", 1)
    run = root / "runs/job/uid-1"
    (run / "out").symlink_to(root / "secret")
    (run / "loop").symlink_to(run / "loop")
    (run / "other").symlink_to(root / "runs/theirs/uid-2/run.json")
    (root / "runs/job/away").symlink_to(root)
    reply = await client.get(f"/v1/files/{path}")
    assert reply.status_code == 404, reply.text
    assert reply.headers["content-type"] == "application/problem+json"


async def test_a_caller_needs_the_right_to_see_the_job(
    client: httpx.AsyncClient, kube: FakeKube, weights: str
) -> None:
    kube.tokens["some"] = {"trainingjobs": ALL_VERBS - {"get"}, "datasets": ALL_VERBS}
    client.headers["Authorization"] = "Bearer some"
    for path in (weights, "runs/job/uid-1/none"):
        reply = await client.get(f"/v1/files/{path}")
        assert reply.status_code == 403
        assert "get trainingjobs.kubeseg.dev 'job'" in reply.json()["detail"]
