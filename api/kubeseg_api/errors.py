"""Errors that a caller sees, and the one place that turns them into replies."""

from __future__ import annotations

import errno
import logging
import os
from typing import Any

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

log = logging.getLogger(__name__)

NATIVE_PREFIX = "/v1/"
PROBLEM_TYPE = "application/problem+json"
#: Names, not pages: docs/rest-api.md lists them.
PROBLEM_BASE = "https://kubeseg.dev/problems/"


class ApiError(Exception):
    """The base of them all: a status, a name (`kind`), a title, and a sentence with the remedy.

    Native calls get all of it as a problem document, with `extra` as further members; the
    contracts of source systems get `{"detail": …}`.
    """

    status = 500
    kind = "internal"
    title = "Something went wrong here"

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        kind: str | None = None,
        title: str | None = None,
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status or self.status
        self.kind = kind or self.kind
        self.title = title or self.title
        self.headers = headers or {}
        self.extra = extra


class BadRequestError(ApiError):
    """400: what was sent can't be used."""

    status, kind, title = 400, "bad-request", "The request can't be used"


class UnauthorizedError(ApiError):
    """401: no token, or one that the API server does not know."""

    status, kind, title = 401, "unauthorized", "A valid bearer token is needed"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer realm="kubeseg"'})


class ForbiddenError(ApiError):
    """403: the token's owner lacks a role."""

    status, kind, title = 403, "forbidden", "Not allowed"


class NotFoundError(ApiError):
    """404."""

    status, kind, title = 404, "not-found", "Not found"


class ConflictError(ApiError):
    """409: it is there already, in use, or has changed meanwhile."""

    status, kind, title = 409, "conflict", "In conflict with what is there"


class TooLargeError(ApiError):
    """413: past a limit that the message names."""

    status, kind, title = 413, "too-large", "Too large"


class InvalidError(ApiError):
    """422: understood, but it doesn't fit."""

    status, kind, title = 422, "invalid", "It doesn't fit"


class UnavailableError(ApiError):
    """503: something that the facade needs can't be reached; try again."""

    status, kind, title = 503, "unavailable", "Not reachable at the moment"


class FullError(ApiError):
    """507: the workspace volume has no room left."""

    status, kind, title = 507, "workspace-full", "The workspace is full"


def from_os_error(error: OSError, workspace: str) -> ApiError:
    """What a failed read or write of the workspace means to the caller."""
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        try:
            stat = os.statvfs(workspace)
            free: int | None = stat.f_bavail * stat.f_frsize
        except OSError:
            free = None  # the message is still right without the number
        return FullError(
            f"the workspace volume has {'no room' if free is None else f'{free} bytes'} left, "
            "which is not enough; nothing was changed. Delete data sets or old runs, or enlarge "
            "the volume.",
            freeBytes=free,
        )
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return ApiError(
            f"the facade may not write the workspace ({where}{error.strerror}). The volume has to "
            "belong to group 10001 and be mounted read-write.",
            kind="workspace-not-writable",
            title="The workspace can't be written",
        )
    return UnavailableError(
        f"the workspace can't be read or written ({where}{error.strerror or error}). Try again; "
        "if it stays, look at the volume.",
        kind="workspace-error",
    )


def is_native(path: str) -> bool:
    """Whether `path` belongs to the native calls, whose errors are problem documents."""
    return path.startswith(NATIVE_PREFIX)


def reply(path: str, error: ApiError) -> JSONResponse:
    """The reply to a call of `path` that ended with `error`."""
    if not is_native(path):
        return JSONResponse({"detail": error.detail}, error.status, error.headers)
    body: dict[str, Any] = {
        "type": f"{PROBLEM_BASE}{error.kind}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        **{key: value for key, value in error.extra.items() if value is not None},
    }
    return JSONResponse(body, error.status, error.headers, media_type=PROBLEM_TYPE)


def install(app: FastAPI, workspace: str) -> None:
    """Makes `app` answer every error in the words of the contract that was called."""

    async def on_api_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        if error.status >= 500:
            log.error("%s %s: %s", request.method, request.url.path, error.detail)
        return reply(request.url.path, error)

    async def on_os_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, OSError)
        log.error("%s %s", request.method, request.url.path, exc_info=error)
        return reply(request.url.path, from_os_error(error, workspace))

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        wrapped = ApiError(
            str(error.detail),
            status=error.status_code,
            kind={404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "http"),
            title=str(error.detail),
            headers=dict(error.headers or {}),
        )
        return reply(request.url.path, wrapped)

    async def on_invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        problems = jsonable_encoder(error.errors())
        if not is_native(request.url.path):
            return JSONResponse({"detail": problems}, 422)
        said = "; ".join(
            f"{'.'.join(str(part) for part in entry['loc'])}: {entry['msg']}"
            for entry in error.errors()
        )
        return reply(request.url.path, InvalidError(said, kind="invalid-parameters"))

    async def on_anything(request: Request, error: Exception) -> JSONResponse:
        # Starlette logs nothing but raises again: uvicorn writes the traceback.
        text = f"{type(error).__name__} in {request.method} {request.url.path}; the log has more"
        return reply(request.url.path, ApiError(text))

    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(OSError, on_os_error)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(Exception, on_anything)
