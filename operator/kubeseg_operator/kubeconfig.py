"""The current context of a kubeconfig: server, TLS and credentials.

https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/. Only for an
operator outside of its cluster, so what few need there is refused: helpers that fetch tokens
(`exec`, `auth-provider`), proxies, other server names.
"""

from __future__ import annotations

import base64
import ssl
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from kubeseg_operator.client import ApiUnreachableError, TokenFile


class KubeconfigError(Exception):
    """A kubeconfig that can't be used, and why."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the current context says."""

    server: str
    tls: ssl.SSLContext
    headers: Callable[[], Mapping[str, str]]


def _pem(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except ValueError:
        raise ValueError("must be base64 of a PEM file") from None


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        known = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise ValueError("must be an address such as https://host:6443")
    return text


def _header(text: str) -> str:
    text = text.strip()
    if not text.isprintable() or not text.isascii():
        raise ValueError("must be one line of printable characters")
    return text


Pem = Annotated[str, AfterValidator(_pem)]
Secret = Annotated[str, AfterValidator(_header)]


class _Part(BaseModel):
    """Strict, since `"false"` is no false; what is not named here does not matter."""

    model_config = ConfigDict(strict=True, extra="ignore")
    #: Refused, since leaving it out would mean something else.
    unsupported: ClassVar[tuple[str, ...]] = ()


class _Cluster(_Part):
    server: Annotated[str, AfterValidator(_url)]
    authority: Path | None = Field(None, alias="certificate-authority", strict=False)
    authority_data: Pem | None = Field(None, alias="certificate-authority-data")
    insecure: bool = Field(False, alias="insecure-skip-tls-verify")
    unsupported = ("proxy-url", "tls-server-name")


class _User(_Part):
    token: Secret | None = None
    token_file: Path | None = Field(None, alias="tokenFile", strict=False)
    username: Secret | None = None
    password: str = ""
    certificate: Path | None = Field(None, alias="client-certificate", strict=False)
    certificate_data: Pem | None = Field(None, alias="client-certificate-data")
    key: Path | None = Field(None, alias="client-key", strict=False)
    key_data: Pem | None = Field(None, alias="client-key-data")
    unsupported = ("exec", "auth-provider")


class _Context(_Part):
    cluster: str
    user: str


class _Named(_Part):
    name: str
    content: dict[str, Any] = {}


class _Config(_Part):
    current: str | None = Field(None, alias="current-context")
    contexts: list[dict[str, Any]] | None = None
    clusters: list[dict[str, Any]] | None = None
    users: list[dict[str, Any]] | None = None


P = TypeVar("P", bound=_Part)


def read(paths: Sequence[Path]) -> Context:
    """The current context of `paths`; of two entries of one name the first counts, and of several
    paths those count that are there.

    Raises KubeconfigError.
    """
    there = [path for path in paths if path.exists()] or paths[:1]
    merged = _Merged(there)
    context = merged.entry("context", merged.current, _Context)
    cluster = merged.entry("cluster", context.cluster, _Cluster)
    user = merged.entry("user", context.user, _User)
    return Context(cluster.server, _tls(merged.where, cluster, user), _headers(merged.where, user))


class _Merged:
    """Several kubeconfigs as one; paths in each are made absolute."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.where = ":".join(map(str, paths))
        self._entries: dict[tuple[str, str], dict[str, Any]] = {}
        current: str | None = None
        for path in paths:
            config = _read(path)
            current = current or config.current
            folder = path.resolve().parent
            for kind in ("context", "cluster", "user"):
                for item in getattr(config, f"{kind}s") or []:
                    named = _checked(
                        f"{path}: {kind}s", _Named, {**item, "content": item.get(kind) or {}}
                    )
                    entry = _absolute(named.content, folder)
                    self._entries.setdefault((kind, named.name), entry)
        if not current:
            raise KubeconfigError(
                f"{self.where}: no `current-context` is set: kubectl config use-context NAME"
            )
        self.current = current

    def entry(self, kind: str, name: str, model: type[P]) -> P:
        """The context, cluster or user of this name."""
        where = f"{self.where}: {kind} {name!r}"
        entry = self._entries.get((kind, name))
        if entry is None:
            names = ", ".join(repr(n) for k, n in self._entries if k == kind) or "none"
            raise KubeconfigError(f"{self.where}: it has no {kind} {name!r} (it has: {names})")
        for field in model.unsupported:
            if entry.get(field):
                raise KubeconfigError(
                    f"{where}: `{field}` is not supported: use a context with a plain `server`, "
                    "and a token or client certificate"
                )
        return _checked(where, model, entry)


def _read(path: Path) -> _Config:
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise KubeconfigError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise KubeconfigError(f"{path}: no YAML: {' '.join(str(error).split())}") from error
    if content is not None and not isinstance(content, dict):
        raise KubeconfigError(f"{path}: must be a mapping, not {type(content).__name__}")
    return _checked(str(path), _Config, content or {})


def _checked(where: str, model: type[P], content: dict[str, Any]) -> P:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        words = first["msg"].removeprefix("Value error, ")
        raise KubeconfigError(f"{where}: `{field}`: {words}") from None


_PATHS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def _absolute(entry: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Empty fields count as left out, as kubectl has it."""
    kept = {str(name): value for name, value in entry.items() if value not in (None, "")}
    named = {name: str(folder / kept[name]) for name in _PATHS if isinstance(kept.get(name), str)}
    return kept | named


def _tls(where: str, cluster: _Cluster, user: _User) -> ssl.SSLContext:
    authority = cluster.authority
    try:
        tls = ssl.create_default_context(
            cafile=None if cluster.authority_data else authority, cadata=cluster.authority_data
        )
    except OSError as error:
        file = authority if not cluster.authority_data else "certificate-authority-data"
        raise KubeconfigError(f"{where}: {file}: no certificates: {error.strerror}") from error
    if cluster.insecure:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    with tempfile.TemporaryDirectory() as folder:
        # Python's ssl takes a client's certificate and key only as files.
        certificate = _file(user.certificate_data, user.certificate, Path(folder) / "certificate")
        key = _file(user.key_data, user.key, Path(folder) / "key")
        if (certificate is None) != (key is None):
            raise KubeconfigError(
                f"{where}: `client-certificate` and `client-key` must both be given"
            )
        if certificate and key:
            _check_readable(where, certificate, key)
            try:
                tls.load_cert_chain(certificate, key)
            except (OSError, ValueError) as error:
                raise KubeconfigError(
                    f"{where}: `client-certificate` and `client-key` don't fit each other, or are "
                    f"no PEM files: {error}"
                ) from error
    return tls


def _check_readable(where: str, *files: Path) -> None:
    for file in files:
        try:
            file.read_bytes()
        except OSError as error:
            raise KubeconfigError(f"{where}: {file}: {error.strerror}") from error


def _file(data: str | None, path: Path | None, temporary: Path) -> Path | None:
    if data is None:
        return path
    temporary.touch(mode=0o600)
    temporary.write_text(data)
    return temporary


def _headers(where: str, user: _User) -> Callable[[], Mapping[str, str]]:
    if user.token_file and not user.token:
        kept = TokenFile(user.token_file)
        try:
            kept.headers()
        except ApiUnreachableError as error:
            raise KubeconfigError(f"{where}: `tokenFile`: {error}") from error
        return kept.headers
    fixed: dict[str, str] = {}
    if user.token:
        fixed["Authorization"] = f"Bearer {user.token}"
    elif user.username:
        pair = base64.b64encode(f"{user.username}:{user.password}".encode()).decode()
        fixed["Authorization"] = f"Basic {pair}"
    return lambda: fixed
