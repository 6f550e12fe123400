"""/v1/files: what a FilePath, or a path in a TrainingJob's status, names."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from kubeseg_api.auth import CallerDep
from kubeseg_api.services.files import Files, digest_headers
from kubeseg_api.v1.schemas import problems

router = APIRouter(prefix="/v1/files", tags=["files"])

BINARY = "application/octet-stream"
TEXTS = {".json", ".jsonl", ".md"}
#: Drawn by trainers; a browser shows them (as nothing but images: the type is never sniffed).
PICTURES = {".png": "image/png", ".jpg": "image/jpeg"}


@router.get(
    "/{path:path}",
    summary="Download a file of a run",
    response_class=FileResponse,
    responses={
        **problems(400, 404),
        200: {
            "description": "The file, with its SHA-256 in `Repr-Digest` and `X-Checksum-Sha256`.",
            "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}},
        },
        206: {"description": "The part that a Range header asked for."},
    },
)
@router.head("/{path:path}", include_in_schema=False)
async def download(
    request: Request,
    caller: CallerDep,
    path: Annotated[str, Path(description="Path below the workspace, beginning with runs/.")],
    format: Annotated[  # noqa: A002
        Literal["pt"] | None,
        Query(
            description="pt: weights as a plain state_dict, which "
            "torch.load(…, weights_only=True) opens. Not given: the file as it is."
        ),
    ] = None,
) -> Response:
    """Serves a file below runs/, to callers who may see its TrainingJob."""
    files: Files = request.app.state.files
    file = await files.locate(caller, path)
    if format == "pt":
        converted = await files.as_pt(file)
        headers = digest_headers(converted.sha256) | {
            "Content-Length": str(converted.size),
            "Content-Disposition": f'attachment; filename="{file.stem}.pt"',
        }
        return StreamingResponse(converted.blocks(), headers=headers, media_type=BINARY)
    headers = digest_headers(await files.sha256(file))
    picture = PICTURES.get(file.suffix)
    if picture is not None:
        return FileResponse(
            file,
            headers=headers | {"X-Content-Type-Options": "nosniff"},
            media_type=picture,
            filename=file.name,
            content_disposition_type="inline",
        )
    return FileResponse(
        file,
        headers=headers,
        media_type=None if file.suffix in TEXTS else BINARY,
        filename=file.name,
    )
