"""Where the API server is and who we are: in the cluster, else from KUBECONFIG."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import kopf

from kubeseg_operator.client import TokenFile

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Connection:
    """One way to the API server, for our client and for kopf."""

    server: str
    tls: ssl.SSLContext
    headers: Callable[[], Mapping[str, str]]
    #: The namespace that we run in; empty outside of a cluster.
    namespace: str = ""


def connect() -> Connection:
    """The connection. Raises kopf.LoginError where there is neither a cluster nor a KUBECONFIG."""
    if os.environ.get("KUBERNETES_SERVICE_HOST") and (ACCOUNT / "token").exists():
        return _in_cluster()
    try:
        info = kopf.login_with_kubeconfig(settings=kopf.OperatorSettings())
    except (OSError, KeyError) as error:
        raise kopf.LoginError(f"KUBECONFIG can't be read: {error}") from error
    if info is None:
        raise kopf.LoginError(
            f"no API server to talk to: there is no service account in {ACCOUNT}, and KUBECONFIG "
            "names no file"
        )
    return Connection(info.server, info.as_ssl_context(), info.as_http_headers)


def _in_cluster() -> Connection:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    authority = str(ACCOUNT / "ca.crt")
    token = TokenFile(ACCOUNT / "token")

    namespace = (ACCOUNT / "namespace").read_text().strip()
    tls = ssl.create_default_context(cafile=authority)
    return Connection(server, tls, token.headers, namespace)
