"""The API server, as the facade speaks to it: the caller's token on a shared connection.

Only the server's address and its CA are the facade's own; it has no rights by itself.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import yaml

from kubeseg_api.errors import (
    ApiError,
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
)
from kubeseg_types.shallow import shallow

log = logging.getLogger(__name__)

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TIMEOUT_SECONDS = 20.0


class ClusterConfigError(Exception):
    """Where the API server is can't be found out."""


@dataclass(frozen=True)
class Cluster:
    """Where the API server is: its URL, how TLS is checked, and the namespace that is meant."""

    server: str
    tls: ssl.SSLContext | None = None
    namespace: str = "default"


def find_cluster(environment: Mapping[str, str] = os.environ) -> Cluster:
    """KUBECONFIG where it is set, else the pod's service account, else ~/.kube/config."""
    if environment.get("KUBECONFIG"):
        return from_kubeconfig(Path(environment["KUBECONFIG"]))
    host = environment.get("KUBERNETES_SERVICE_HOST")
    if host:
        port = environment.get("KUBERNETES_SERVICE_PORT", "443")
        shown = f"[{host}]" if ":" in host else host
        certificate = SERVICE_ACCOUNT / "ca.crt"
        namespace = SERVICE_ACCOUNT / "namespace"
        try:
            tls = ssl.create_default_context(cafile=str(certificate))
        except OSError as error:
            raise ClusterConfigError(
                f"{certificate}: {error}. Mount the ConfigMap kube-root-ca.crt there."
            ) from error
        return Cluster(
            f"https://{shown}:{port}",
            tls,
            namespace.read_text().strip() if namespace.is_file() else "default",
        )
    return from_kubeconfig(Path.home() / ".kube" / "config")


def from_kubeconfig(path: Path) -> Cluster:
    """Server, CA and namespace of the current context of `path`; its credentials are not used."""
    try:
        config = yaml.safe_load(path.read_text())
        context = _named(config["contexts"], config["current-context"], "context")
        cluster = _named(config["clusters"], context["cluster"], "cluster")
        server = str(cluster["server"]).rstrip("/")
        tls = _tls(cluster, path.parent) if urlsplit(server).scheme == "https" else None
    except (OSError, yaml.YAMLError, LookupError, TypeError, binascii.Error) as error:
        raise ClusterConfigError(
            f"kubeconfig {path} can't be used ({error}). Set KUBECONFIG to one with a current "
            "context."
        ) from error
    return Cluster(server, tls, context.get("namespace") or "default")


def _named(entries: list[dict[str, Any]], name: str, key: str) -> dict[str, Any]:
    for entry in entries:
        if entry["name"] == name:
            found: dict[str, Any] = entry[key]
            return found
    raise LookupError(f"it has no {key} {name!r}")


def _tls(cluster: dict[str, Any], folder: Path) -> ssl.SSLContext:
    data = cluster.get("certificate-authority-data")
    file = cluster.get("certificate-authority")
    context = ssl.create_default_context(
        cafile=str(folder / file) if file and not data else None,
        cadata=base64.b64decode(data).decode() if data else None,
    )
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Kube:
    """One shared connection pool to the API server; each request brings its caller's token."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # No cookies: they would be shared between callers.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self.cluster.tls or False, limit=64),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session:
            await self._session.close()

    async def request(
        self,
        token: str | None,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Any:
        """The decoded JSON reply to `method` `path`.

        Raises the ApiError that fits the server's answer; UnavailableError (503) where there is
        none, or a 5xx.
        """
        assert self._session, "Kube is an async context manager"
        headers = {"Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = json.dumps(body).encode()
        url = f"{self.cluster.server}{path}"
        try:
            async with self._session.request(
                method, url, headers=headers, data=data, params=params
            ) as response:
                text = (await response.read()).decode(errors="replace")
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnavailableError(
                "the Kubernetes API server does not answer "
                f"({str(error) or type(error).__name__}); nothing was lost, try again",
                kind="api-server-unreachable",
                headers={"Retry-After": "5"},
            ) from error
        if status >= 400:
            raise from_status(status, text)
        try:
            return _parsed(text)
        except ValueError as error:
            raise UnavailableError(
                f"the API server at {self.cluster.server} does not answer in JSON: {text[:80]!r}"
            ) from error

    async def reachable(self) -> str | None:
        """Why the API server can't be reached, or None. Needs no rights: a 401 is an answer too."""
        assert self._session, "Kube is an async context manager"
        try:
            async with self._session.get(
                f"{self.cluster.server}/readyz", timeout=aiohttp.ClientTimeout(total=5)
            ) as response:
                if response.status >= 500:
                    return f"the API server is not ready (it answers {response.status})"
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"the API server can't be reached: {str(error) or type(error).__name__}"
        return None


def _parsed(text: str) -> Any:
    """One object that is nested too deep hides no others."""
    try:
        return json.loads(text)
    except RecursionError:
        return json.loads(shallow(text.encode()))


def from_status(status: int, text: str) -> ApiError:
    """The error for a reply of the API server: HTTP status and body (a `Status` object)."""
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = {}
    answer: dict[str, Any] = parsed if isinstance(parsed, dict) else {}
    message = str(answer.get("message") or text[:200] or f"HTTP {status}")
    reason = str(answer.get("reason") or "")
    if status == 401:
        return UnauthorizedError(
            "the API server does not know this token; it may have expired. A new one: kubectl "
            "create token <service account>"
        )
    if status == 403:
        return ForbiddenError(message)
    if status == 404:
        return NotFoundError(message)
    if status == 409:
        already = reason == "AlreadyExists"
        return ConflictError(message, kind="already-exists" if already else "conflict")
    if status in {400, 422}:
        return BadRequestError(message, kind="refused-by-api-server")
    return UnavailableError(
        f"the API server answers {status}: {message}", headers={"Retry-After": "5"}
    )
