"""Owns the lab's certificates and kubeconfigs: one authority, and a key pair for each who speaks to the API server.

It must not be used for anything but a lab: keys lie unencrypted in the lab's state directory and go with it.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALIDITY = datetime.timedelta(days=365)


class Authority:
    """A certificate authority whose files are in ``directory``: ``ca.crt``, ``ca.key``, and NAME.crt, NAME.key for
    each issue.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject("manx-lab-ca", None)
        builder = _builder(self._name, self._name, self._key)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self._write("ca", self._key, builder.sign(self._key, hashes.SHA256()))

    def issue(self, file: str, common_name: str, group: str | None = None, *, names: list[str] | None = None) -> None:
        """Write FILE.crt and FILE.key for a client, or a server where ``names`` (DNS names, IP addresses) are given."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_subject(common_name, group), self._name, key)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_alt(n) for n in names]), critical=False)
        self._write(file, key, builder.sign(self._key, hashes.SHA256()))

    def _write(self, file: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        (self.directory / f"{file}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        write_key(self.directory / f"{file}.key", key)


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a private key, unencrypted, for root alone."""
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )


def write_service_account_key(directory: Path) -> None:
    """Write sa.key and sa.pub, with which service-account tokens are signed and checked."""
    key = ec.generate_private_key(ec.SECP256R1())
    write_key(directory / "sa.key", key)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (directory / "sa.pub").write_bytes(public)


def write_kubeconfig(path: Path, server: str, pki: Path, file: str) -> None:
    """Write a self-contained kubeconfig for the client whose key pair is FILE.crt, FILE.key in ``pki``."""
    cluster = {"server": server, "certificate-authority-data": _data(pki / "ca.crt")}
    user = {
        "client-certificate-data": _data(pki / f"{file}.crt"),
        "client-key-data": _data(pki / f"{file}.key"),
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": file, "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": file}}],
        "current-context": "lab",
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document))


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _alt(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _subject(common_name: str, group: str | None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if group:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(parts)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + VALIDITY)
    )
