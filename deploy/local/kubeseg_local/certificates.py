"""The cluster's certificates: one authority, one serving certificate, one for each client."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = dt.timedelta(days=3650)
# A clock that was set back a little must not make a new cluster invalid.
BACKDATED = dt.timedelta(hours=1)

#: Client's file name to (user, group), as Kubernetes' built-in roles expect them.
CLIENTS = {
    "admin": ("kubeseg-admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "apiserver-kubelet": ("kube-apiserver-kubelet-client", "system:masters"),
    "etcd-client": ("kube-apiserver-etcd-client", ""),
}


def write_all(pki: Path, node: str, api_address: str) -> None:
    """Fill the folder `pki` for a cluster of one node, whose API Service has `api_address`."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _authority(key)
    authority = (certificate, key)
    _write_certificate(pki / "ca.crt", certificate)
    clients = CLIENTS | {"kubelet": (f"system:node:{node}", "system:nodes")}
    for name, (user, group) in clients.items():
        _issue(pki, name, _name(user, group), authority)
    names: list[x509.GeneralName] = [
        x509.DNSName(each)
        for each in (
            "localhost",
            node,
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        )
    ]
    names += [x509.IPAddress(ipaddress.ip_address(each)) for each in ("127.0.0.1", api_address)]
    _issue(pki, "server", _name("kubeseg-local", ""), authority, names)
    signing = ec.generate_private_key(ec.SECP256R1())
    _write_key(pki / "service-accounts.key", signing)
    (pki / "service-accounts.pub").write_bytes(
        signing.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    # Tokens of the controller manager's CSR signer need the authority's key.
    _write_key(pki / "ca.key", key)


def _name(user: str, group: str) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
    if group:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(parts)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + LIFETIME)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    # Not the name of a certificate that it issues: such a one would count as self-signed.
    name = _name("kubeseg-local-authority", "")
    return (
        _builder(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _issue(
    pki: Path,
    name: str,
    subject: x509.Name,
    authority: tuple[x509.Certificate, ec.EllipticCurvePrivateKey],
    alternative_names: list[x509.GeneralName] | None = None,
) -> None:
    """Write `<name>.crt` and `<name>.key`: of a client, and with names of a server too."""
    issuer, issuer_key = authority
    key = ec.generate_private_key(ec.SECP256R1())
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        _builder(subject, issuer.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    if alternative_names is not None:
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
        builder = builder.add_extension(
            x509.SubjectAlternativeName(alternative_names), critical=False
        )
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    _write_certificate(pki / f"{name}.crt", builder.sign(issuer_key, hashes.SHA256()))
    _write_key(pki / f"{name}.key", key)


def _write_certificate(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
