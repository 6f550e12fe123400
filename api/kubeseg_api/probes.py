"""/healthz and /readyz, which need no token."""

from __future__ import annotations

import asyncio
import errno
import tempfile
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from kubeseg_api.kube import Kube

router = APIRouter(tags=["probes"])

PROBE_SECONDS = 5


@router.get("/healthz", summary="Is the process alive?", response_description="It is.")
async def healthz() -> dict[str, str]:
    """Answers as long as the process does; looks at nothing else."""
    return {"status": "ok"}


@router.get(
    "/readyz",
    summary="Can calls be answered?",
    response_description="API server and workspace are there.",
    responses={503: {"description": "What is missing, in words."}},
)
async def readyz(request: Request) -> JSONResponse:
    """Whether the API server answers and the workspace can be written."""
    kube: Kube = request.app.state.kube
    server, volume = await asyncio.gather(
        kube.reachable(), _workspace(request.app.state.settings.workspace)
    )
    missing = [text for text in (server, volume) if text]
    if missing:
        return JSONResponse({"status": "not ready", "missing": missing}, 503)
    return JSONResponse({"status": "ok"})


async def _workspace(root: Path) -> str | None:
    try:
        return await asyncio.wait_for(asyncio.to_thread(workspace_error, root), PROBE_SECONDS)
    except TimeoutError:
        return f"the workspace {root} does not answer within {PROBE_SECONDS} s"


def workspace_error(root: Path) -> str | None:
    """Why the workspace can't be used, or None. A full one can still be read: that is ready."""
    if not root.is_dir():
        return f"the workspace {root} is not there (not mounted?)"
    try:
        with tempfile.TemporaryFile(dir=root, prefix=".ready-"):
            return None
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return None
        return f"the workspace {root} can't be written: {error.strerror or error}"
