"""/v1/datasets: upload as a ZIP, list, show, remove."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from kubeseg_api.auth import CallerDep
from kubeseg_api.caller import Caller
from kubeseg_api.services.datasets import Datasets
from kubeseg_api.v1.multipart import boundary_of, file_of
from kubeseg_api.v1.schemas import DatasetInfo, DatasetList, problems

router = APIRouter(prefix="/v1/datasets", tags=["data sets"])

Name = Annotated[
    str,
    Path(description="Letters, digits, '.', '_' or '-', the first a letter or digit, at most 128."),
]
Owner = Annotated[str, Path(description="Whose data set it is; the User of a study.")]
Replace = Annotated[
    bool, Query(description="Replace a data set of this name, if no unfinished job reads it.")
]
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A ZIP with images/ and masks/, or train/ and val/ with those inside; each "
        "image has a mask with the same stem. As the body, or as the file of a form.",
        "content": {
            "application/zip": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}
_UPLOADED = "There now; 200 where it replaced another, 201 where it is new."


def _datasets(request: Request) -> Datasets:
    datasets: Datasets = request.app.state.datasets
    return datasets


@router.get(
    "", summary="All data sets", response_description="Sorted by name.", responses=problems()
)
async def list_datasets(request: Request, caller: CallerDep) -> DatasetList:
    """All data sets of the workspace, with counts."""
    found = await _datasets(request).list_all(caller)
    return DatasetList(items=[DatasetInfo.of(info) for info in found])


async def _upload(
    request: Request, response: Response, caller: Caller, name: str, *, replace: bool
) -> DatasetInfo:
    length = request.headers.get("Content-Length", "")
    boundary = boundary_of(request.headers.get("Content-Type"))
    body = request.stream()
    info, replaced = await _datasets(request).upload(
        caller,
        name,
        file_of(boundary, body) if boundary else body,
        length=int(length) if length.isdecimal() else None,
        replace=replace,
    )
    response.status_code = 200 if replaced else 201
    return DatasetInfo.of(info)


_UPLOAD: dict[str, Any] = {
    "summary": "Upload a data set",
    "status_code": 201,
    "response_description": _UPLOADED,
    "responses": problems(400, 408, 409, 413, 507),
    "openapi_extra": _BODY,
}


@router.put("/{name}", operation_id="put_dataset", **_UPLOAD)
@router.post("/{name}", operation_id="post_dataset", **_UPLOAD)
async def upload_dataset(
    request: Request, response: Response, caller: CallerDep, name: Name, replace: Replace = False
) -> DatasetInfo:
    """Unpacks a ZIP into a data set: all of it, or nothing."""
    return await _upload(request, response, caller, name, replace=replace)


@router.put("/{owner}/{name}", operation_id="put_owned_dataset", **_UPLOAD)
@router.post("/{owner}/{name}", operation_id="post_owned_dataset", **_UPLOAD)
async def upload_owned_dataset(
    request: Request,
    response: Response,
    caller: CallerDep,
    *,
    owner: Owner,
    name: Name,
    replace: Replace = False,
) -> DatasetInfo:
    """Unpacks a ZIP into a data set of this owner: all of it, or nothing."""
    return await _upload(request, response, caller, f"{owner}/{name}", replace=replace)


@router.get(
    "/{name}",
    summary="One data set",
    response_description="The data set.",
    responses=problems(404),
)
async def show_dataset(request: Request, caller: CallerDep, name: Name) -> DatasetInfo:
    """One data set, with counts."""
    return DatasetInfo.of(await _datasets(request).get(caller, name))


@router.get(
    "/{owner}/{name}",
    summary="One data set of an owner",
    response_description="The data set.",
    responses=problems(404),
)
async def show_owned_dataset(
    request: Request, caller: CallerDep, owner: Owner, name: Name
) -> DatasetInfo:
    """One data set of this owner, with counts."""
    return DatasetInfo.of(await _datasets(request).get(caller, f"{owner}/{name}"))


@router.delete(
    "/{name}",
    summary="Remove a data set",
    status_code=204,
    response_description="It is gone.",
    responses=problems(404, 409),
)
async def remove_dataset(request: Request, caller: CallerDep, name: Name) -> None:
    """Removes a data set, if no unfinished job reads it."""
    await _datasets(request).remove(caller, name)


@router.delete(
    "/{owner}/{name}",
    summary="Remove a data set of an owner",
    status_code=204,
    response_description="It is gone.",
    responses=problems(404, 409),
)
async def remove_owned_dataset(
    request: Request, caller: CallerDep, owner: Owner, name: Name
) -> None:
    """Removes a data set of this owner, if no unfinished job reads it."""
    await _datasets(request).remove(caller, f"{owner}/{name}")
