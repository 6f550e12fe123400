"""The ASGI application: services, routes and errors put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from kubeseg_api import errors, probes, reference
from kubeseg_api.contracts.study import routes as study
from kubeseg_api.kube import Cluster, Kube
from kubeseg_api.metrics import RequestMetrics
from kubeseg_api.services.datasets import Datasets
from kubeseg_api.services.files import Files
from kubeseg_api.services.studies import Studies
from kubeseg_api.settings import Settings
from kubeseg_api.storage.archive import Limits
from kubeseg_api.storage.incoming import recover
from kubeseg_api.v1 import datasets, files, jobs
from kubeseg_api.v1.schemas import Problem

log = logging.getLogger(__name__)

#: Threads that wait for the workspace, which may be slow.
THREADS = 32

_ABOUT = """\
Trains image-segmentation networks on Kubernetes. Every call becomes a TrainingJob's create, patch,
delete or read, with the caller's own token, or a read of the workspace volume.

`/study`, `/checkstudy` and `/modeles` keep the contract of the Study service; `/v1` is native.
"""


def create_app(
    settings: Settings, cluster: Cluster, registry: CollectorRegistry | None = None
) -> FastAPI:
    """The facade for one workspace and one namespace of `cluster`; metrics go to `registry`."""
    kube = Kube(cluster)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        executor = ThreadPoolExecutor(THREADS, thread_name_prefix="workspace")
        asyncio.get_running_loop().set_default_executor(executor)
        await asyncio.to_thread(_clean, settings)
        async with kube:
            yield

    app = FastAPI(
        title="kubeseg",
        version=version("kubeseg"),
        description=_ABOUT,
        lifespan=lifespan,
        redirect_slashes=False,
        # Their pages load scripts from a CDN, which a closed cluster can't reach: see reference.py.
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.kube = kube
    app.state.studies = Studies(settings.workspace, settings.study_template)
    app.state.datasets = Datasets(
        settings.workspace, Limits(settings.max_upload_bytes, settings.max_files)
    )
    app.state.files = Files(settings.workspace, settings.temporary)
    errors.install(app, str(settings.workspace))
    for module in (study, datasets, files, jobs, probes, reference):
        app.include_router(module.router)
    _describe(app)
    app.add_middleware(RequestMetrics, registry=registry or CollectorRegistry())
    return app


def _clean(settings: Settings) -> None:
    try:
        removed = recover(settings.workspace)
    except OSError as error:
        # Not fatal: /readyz says what is wrong with the workspace, and the next start cleans up.
        log.warning("can't look for interrupted uploads: %s", error)
        return
    if removed:
        log.info("removed %d interrupted uploads", removed)


def _describe(app: FastAPI) -> None:
    """Adds the schema of problem documents, which no route returns as its model."""
    generate = app.openapi

    def openapi() -> dict[str, object]:
        document = generate()
        document["components"].setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
        return document

    app.openapi = openapi  # type: ignore[method-assign]
