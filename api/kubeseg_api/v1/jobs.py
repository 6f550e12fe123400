"""/v1/jobs: TrainingJobs as they are, for pages that can't speak to the API server."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path

from kubeseg_api.auth import CallerDep
from kubeseg_api.errors import NotFoundError
from kubeseg_api.v1.schemas import JobList, problems

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get(
    "",
    summary="All TrainingJobs",
    response_description="TrainingJobs with spec and status.",
    responses=problems(),
)
async def list_jobs(caller: CallerDep) -> JobList:
    """All TrainingJobs of the namespace, with spec and status."""
    return JobList(items=await caller.jobs())


@router.get(
    "/{name}",
    summary="One TrainingJob",
    response_description="The TrainingJob with spec and status.",
    responses=problems(404),
)
async def show_job(
    caller: CallerDep,
    name: Annotated[str, Path(description="metadata.name of the TrainingJob.", max_length=253)],
) -> dict[str, Any]:
    """One TrainingJob, with spec and status."""
    job = await caller.job(name)
    if job is None:
        raise NotFoundError(f'there is no TrainingJob "{name}" in namespace "{caller.namespace}"')
    return job
