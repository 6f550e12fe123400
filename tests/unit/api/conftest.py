from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from kubeseg_api.app import create_app
from kubeseg_api.kube import Cluster
from kubeseg_api.settings import Settings
from tests.support.fake_kube import FakeKube


@pytest.fixture
def root(tmp_path: Path) -> Path:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    return workspace


@pytest.fixture
def settings(root: Path, tmp_path: Path) -> Settings:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    return Settings(root, namespace="team", max_upload_bytes=1 << 20, temporary=temporary)


@pytest.fixture
async def kube() -> AsyncIterator[FakeKube]:
    fake = FakeKube()
    await fake.server.start_server()
    yield fake
    await fake.server.close()


@pytest.fixture
async def app(settings: Settings, kube: FakeKube) -> AsyncIterator[FastAPI]:
    app = create_app(settings, Cluster(kube.url))
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Authorization": "Bearer admin"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://facade", headers=headers
    ) as client:
        yield client
