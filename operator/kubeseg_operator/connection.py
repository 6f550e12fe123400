"""Where the API server is and who we are: in the cluster, else from KUBECONFIG."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kubeseg_operator import kubeconfig
from kubeseg_operator.client import TokenFile

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
#: Where kubectl looks without a KUBECONFIG.
HOME = Path("~/.kube/config")


class NoConnectionError(Exception):
    """There is neither a cluster around us nor a usable KUBECONFIG."""


@dataclass(frozen=True, slots=True)
class Connection:
    """One way to the API server."""

    server: str
    tls: ssl.SSLContext
    headers: Callable[[], Mapping[str, str]]
    #: The namespace that we run in; empty outside of a cluster.
    namespace: str = ""


def connect() -> Connection:
    """The connection. Raises NoConnectionError."""
    if os.environ.get("KUBERNETES_SERVICE_HOST") and (ACCOUNT / "token").exists():
        return _in_cluster()
    named = os.environ.get("KUBECONFIG", "").split(os.pathsep)
    paths = [Path(os.path.expanduser(path)) for path in named if path]  # noqa: PTH111 - "~nobody"
    if not paths and HOME.expanduser().exists():
        paths = [HOME.expanduser()]
    if not paths:
        raise NoConnectionError(
            f"no API server to talk to: there is no service account in {ACCOUNT}, and KUBECONFIG "
            "names no file"
        )
    try:
        context = kubeconfig.read(paths)
    except kubeconfig.KubeconfigError as error:
        raise NoConnectionError(f"this kubeconfig can't be used: {error}") from error
    return Connection(context.server, context.tls, context.headers)


def _in_cluster() -> Connection:
    host = os.environ["KUBERNETES_SERVICE_HOST"]
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    token = TokenFile(ACCOUNT / "token")
    try:
        namespace = (ACCOUNT / "namespace").read_text().strip()
        tls = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    except OSError as error:
        raise NoConnectionError(
            f"the service account in {ACCOUNT} is not whole: {error}"
        ) from error
    return Connection(server, tls, token.headers, namespace)
