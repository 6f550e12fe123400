"""Kubeconfigs: which entries count, which credentials are taken, and what is said of bad ones."""

from __future__ import annotations

import base64
import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kubeseg_operator import connection, kubeconfig
from kubeseg_operator.connection import NoConnectionError, connect

Raw = dict[str, Any]


def config(user: Raw | None = None, cluster: Raw | None = None, name: str = "here") -> Raw:
    server = {"server": f"https://{name}:6443"}
    return {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [{"name": name, "cluster": server | (cluster or {})}],
        "users": [{"name": name, "user": user or {}}],
    }


def write(path: Path, content: Raw) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def certificate() -> tuple[bytes, bytes]:
    """A self-signed certificate and its key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "admin")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.mark.parametrize(
    ("user", "header"),
    [
        ({}, None),
        ({"token": "t"}, "Bearer t"),
        ({"tokenFile": "token"}, "Bearer from-file"),
        ({"token": "t", "tokenFile": "token"}, "Bearer t"),
        ({"username": "a", "password": "b"}, f"Basic {base64.b64encode(b'a:b').decode()}"),
    ],
)
def test_credentials(tmp_path: Path, user: Raw, header: str | None) -> None:
    (tmp_path / "token").write_text("from-file\n")
    context = kubeconfig.read([write(tmp_path / "config", config(user))])
    assert context.server == "https://here:6443"
    assert context.headers().get("Authorization") == header


@pytest.mark.parametrize("inline", [True, False])
def test_certificates_are_read_from_the_config_or_beside_it(tmp_path: Path, inline: bool) -> None:
    cert, key = certificate()
    parts = {"certificate-authority": cert, "client-certificate": cert, "client-key": key}
    said: Raw = {}
    for name, content in parts.items():
        (tmp_path / name).write_bytes(content)
        said |= {f"{name}-data": base64.b64encode(content).decode()} if inline else {name: name}
    cluster = {name: value for name, value in said.items() if "authority" in name}
    user = {name: value for name, value in said.items() if "client" in name}
    context = kubeconfig.read([write(tmp_path / "config", config(user, cluster))])
    assert [each["serialNumber"] for each in context.tls.get_ca_certs()] == ["01"]


def test_of_several_files_the_first_counts(tmp_path: Path) -> None:
    first = write(tmp_path / "first", config({"token": "1"}) | {"clusters": []})
    second = write(tmp_path / "second", config({"token": "2"}))
    third = write(tmp_path / "third", config({"token": "3"}, name="there"))
    context = kubeconfig.read([first, second, third])
    assert (context.server, context.headers()) == (
        "https://here:6443",
        {"Authorization": "Bearer 1"},
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("contexts: [", "while parsing"),
        ("[1]", "config"),
        ("{}", "no `current-context` is set"),
        (config() | {"current-context": "there"}, "it has no context 'there'"),
        (config() | {"clusters": []}, "it has no cluster 'here'"),
        (config() | {"users": []}, "it has no user 'here'"),
        (config(cluster={"server": None}), "its cluster 'here' has no `server`"),
        (config(cluster={"proxy-url": "http://p"}), "`proxy-url` is not supported"),
        (config({"exec": {}}), "by `exec`, which is not supported: use a token"),
        (config({"client-certificate-data": "%"}), "certificates or key"),
        (config(cluster={"certificate-authority": "none.crt"}), "certificates or key"),
    ],
)
def test_one_that_cannot_be_used_is_named_with_its_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Raw | str, words: str
) -> None:
    path = tmp_path / "config"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(NoConnectionError) as raised:
        connect()
    assert str(raised.value).startswith(f"KUBECONFIG can't be used: {path}: ")
    assert words in str(raised.value)


def test_none_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HOME", tmp_path / "config")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(NoConnectionError, match="KUBECONFIG names no file"):
        connect()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "gone"))
    with pytest.raises(NoConnectionError, match=r"gone: .*No such file"):
        connect()
    write(tmp_path / "config", config())
    monkeypatch.delenv("KUBECONFIG")
    assert connect().server == "https://here:6443"
