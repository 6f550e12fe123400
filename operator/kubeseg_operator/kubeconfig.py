"""The current context of a kubeconfig: server, TLS and credentials.

https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/. Only for an
operator outside of its cluster, so helpers that fetch tokens (`exec`, `auth-provider`) are refused.
"""

from __future__ import annotations

import base64
import binascii
import ssl
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kubeseg_operator.client import TokenFile

Raw = dict[str, Any]


class KubeconfigError(Exception):
    """A kubeconfig that can't be used, and why."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the current context says."""

    server: str
    tls: ssl.SSLContext
    headers: Callable[[], Mapping[str, str]]


def read(paths: Sequence[Path]) -> Context:
    """The current context of `paths`; of two entries of one name the first counts.

    Raises KubeconfigError.
    """
    config = _Merged(paths)
    context = config.entry("context", config.current)
    cluster = config.entry("cluster", str(context.get("cluster")))
    user = config.entry("user", str(context.get("user")))
    if not isinstance(cluster.get("server"), str):
        raise KubeconfigError(f"{config.where}: its cluster {context['cluster']!r} has no `server`")
    if cluster.get("proxy-url"):
        raise KubeconfigError(f"{config.where}: `proxy-url` is not supported")
    for helper in ("exec", "auth-provider"):
        if helper in user:
            raise KubeconfigError(
                f"{config.where}: the user {context['user']!r} gets its credentials by `{helper}`, "
                "which is not supported: use a token or a client certificate"
            )
    try:
        tls = _tls(cluster, user)
    except (OSError, binascii.Error, ValueError) as error:
        raise KubeconfigError(f"{config.where}: certificates or key: {error}") from error
    return Context(cluster["server"], tls, _headers(user))


class _Merged:
    """Several kubeconfigs as one; paths in each are made absolute."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.where = ":".join(map(str, paths))
        self._entries: dict[tuple[str, str], Raw] = {}
        current: str | None = None
        for path in paths:
            try:
                config = yaml.safe_load(path.read_text()) or {}
                current = current or config.get("current-context")
                self._take(config, path.resolve().parent)
            except (OSError, yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
                raise KubeconfigError(f"{path}: {error}") from error
        if not current:
            raise KubeconfigError(f"{self.where}: no `current-context` is set")
        self.current = current

    def _take(self, config: Raw, folder: Path) -> None:
        for kind in ("context", "cluster", "user"):
            for item in config.get(f"{kind}s") or []:
                entry = _absolute(item.get(kind) or {}, folder)
                self._entries.setdefault((kind, item["name"]), entry)

    def entry(self, kind: str, name: str) -> Raw:
        """The context, cluster or user of this name."""
        try:
            return self._entries[kind, name]
        except KeyError:
            raise KubeconfigError(f"{self.where}: it has no {kind} {name!r}") from None


_PATHS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def _absolute(entry: Raw, folder: Path) -> Raw:
    return entry | {name: str(folder / entry[name]) for name in _PATHS if entry.get(name)}


def _tls(cluster: Raw, user: Raw) -> ssl.SSLContext:
    authority = cluster.get("certificate-authority-data")
    tls = ssl.create_default_context(
        cafile=None if authority else cluster.get("certificate-authority"),
        cadata=_decoded(authority).decode() if authority else None,
    )
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    with tempfile.TemporaryDirectory() as folder:
        # Python's ssl takes a client's certificate and key only as files.
        files = [_file(user, name, Path(folder)) for name in ("client-certificate", "client-key")]
        if files[0]:
            tls.load_cert_chain(files[0], files[1])
    return tls


def _file(user: Raw, name: str, folder: Path) -> str | None:
    data = user.get(f"{name}-data")
    if not data:
        return user.get(name)
    path = folder / name
    path.touch(mode=0o600)
    path.write_bytes(_decoded(data))
    return str(path)


def _decoded(data: str) -> bytes:
    return base64.b64decode(data, validate=True)


def _headers(user: Raw) -> Callable[[], Mapping[str, str]]:
    if user.get("tokenFile") and not user.get("token"):
        return TokenFile(Path(user["tokenFile"])).headers
    fixed: dict[str, str] = {}
    if user.get("token"):
        fixed["Authorization"] = f"Bearer {user['token']}"
    elif user.get("username"):
        pair = f"{user['username']}:{user.get('password', '')}"
        fixed["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return lambda: fixed
