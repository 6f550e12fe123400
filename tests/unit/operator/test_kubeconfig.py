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
        ({"token": "t\n", "tokenFile": "token"}, "Bearer t"),
        ({"token": "", "tokenFile": "token", "exec": None}, "Bearer from-file"),
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
    context = kubeconfig.read([tmp_path / "none", first, second, third])
    assert (context.server, context.headers()) == (
        "https://here:6443",
        {"Authorization": "Bearer 1"},
    )


BASE64 = "must be base64 of a PEM file"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("contexts: [", "no YAML: while parsing"),
        (b"\xff\xfe\x00", "no YAML: "),
        ("[" * 5000, "no YAML: "),
        ("[1]", "must be a mapping, not list"),
        ("users: 3", "`users`: Input should be a valid list"),
        ("users: [3]", "`users.0`: Input should be a valid dictionary"),
        ("users: [{}]", "users: `name`: Field required"),
        ("{}", "no `current-context` is set: kubectl config use-context"),
        ("current-context: {a: 1}", "`current-context`: Input should be a valid string"),
        (config() | {"current-context": "there"}, "no context 'there' (it has: 'here')"),
        (config() | {"clusters": []}, "it has no cluster 'here' (it has: none)"),
        (config() | {"users": []}, "it has no user 'here'"),
        (config(cluster={"server": None}), "cluster 'here': `server`: Field required"),
        (config(cluster={"server": "ftp://x"}), "`server`: must be an address such as https://"),
        (config(cluster={"server": "https://x:port"}), "`server`: must be an address such as"),
        (config(cluster={"proxy-url": "http://p"}), "`proxy-url` is not supported"),
        (config(cluster={"tls-server-name": "x"}), "`tls-server-name` is not supported"),
        (
            config(cluster={"insecure-skip-tls-verify": "false"}),
            "`insecure-skip-tls-verify`: Input should be a valid boolean",
        ),
        (config({"exec": {"command": "aws"}}), "user 'here': `exec` is not supported: use"),
        (config({"client-certificate-data": "%"}), f"`client-certificate-data`: {BASE64}"),
        (config({"client-key-data": 3}), "`client-key-data`: Input should be a valid string"),
        (config({"client-certificate": "c"}), "`client-certificate` and `client-key` must both"),
        (config({"client-certificate": "c", "client-key": "k"}), "/c: No such file or directory"),
        (config({"tokenFile": "none"}), "`tokenFile`: the token can't be read: "),
        (config({"token": "a\nb"}), "`token`: must be one line of printable characters"),
        (config(cluster={"certificate-authority": "none.crt"}), "none.crt: no certificates: No"),
        (config(cluster={"certificate-authority-data": "eA=="}), "certificate-authority-data: no"),
    ],
)
def test_one_that_cannot_be_used_is_named_with_its_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Raw | str | bytes, words: str
) -> None:
    path = tmp_path / "config"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(NoConnectionError) as raised:
        connect()
    assert str(raised.value).startswith(f"this kubeconfig can't be used: {path}: ")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_none_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HOME", tmp_path / "config")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(NoConnectionError, match="KUBECONFIG names no file"):
        connect()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "gone"))
    with pytest.raises(NoConnectionError, match=r"gone: No such file or directory"):
        connect()
    monkeypatch.setenv("KUBECONFIG", "~nobodyatall/config")
    with pytest.raises(NoConnectionError, match=r"nobodyatall/config: No such file"):
        connect()
    write(tmp_path / "config", config())
    monkeypatch.delenv("KUBECONFIG")
    assert connect().server == "https://here:6443"
