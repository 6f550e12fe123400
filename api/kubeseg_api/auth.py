"""Who calls: a bearer token, or the one that an administrator lent to callers without."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from kubeseg_api.caller import Caller
from kubeseg_api.errors import UnauthorizedError, UnavailableError
from kubeseg_api.kube import Kube

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="Kubernetes token",
    description="A token that the Kubernetes API server knows, such as `kubectl create token "
    "NAME` gives. What it may do is decided there, by RBAC.",
)
_TOKEN = re.compile(r"[\x21-\x7e]+")


def anonymous_token(file: Path | None) -> str:
    """The token for calls that bring none; read anew each time, since it is rotated."""
    if file is None:
        raise UnauthorizedError(
            "no bearer token: send 'Authorization: Bearer <token>' (kubectl create token <service "
            "account>)"
        )
    try:
        return file.read_text().strip()
    except OSError as error:
        raise UnavailableError(
            f"the token for anonymous calls can't be read ({error}); send one of your own"
        ) from error


def caller(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    """The caller of this request. Raises UnauthorizedError without a token."""
    kube: Kube = request.app.state.kube
    settings = request.app.state.settings
    if credentials is None and request.headers.get("Authorization"):
        raise UnauthorizedError("the Authorization header must be 'Bearer <token>'")
    token = (
        credentials.credentials.strip()
        if credentials
        else anonymous_token(settings.anonymous_token_file)
    )
    if not _TOKEN.fullmatch(token):
        raise UnauthorizedError("the bearer token must be visible ASCII characters only")
    return Caller(kube, token, settings.namespace or kube.cluster.namespace)


CallerDep = Annotated[Caller, Depends(caller)]
