"""A private certificate authority and the server certificates that it signs."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from orchestrator.domain.errors import UserError

CA = "ca"
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
HOST = r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
BACKDATED = timedelta(hours=1)
"""The clocks of boards without a clock battery are often a little behind."""


@dataclass(frozen=True)
class CertificateFiles:
    """PEM files of a certificate and its key; the key has mode 0600."""

    certificate: Path
    key: Path


def init(folder: Path, name: str = "benchfarm", days: int = 3650) -> CertificateFiles:
    """Create an authority in ``folder``.

    Raises:
        UserError: it exists, or the folder cannot be written.
    """
    pair = _files(folder, CA)
    if pair.key.exists():
        raise UserError(f"{pair.key} exists: an authority is not replaced; choose another --folder")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} certificate authority")])
    builder = (
        _builder(subject, subject, key, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
    )
    _write(pair, key, builder.sign(key, hashes.SHA256()))
    return pair


def issue(
    folder: Path, name: str, sans: Sequence[str] = (), days: int = 397
) -> tuple[CertificateFiles, tuple[str, ...]]:
    """Issue a server certificate, replacing an earlier one called ``name``; returns its files and
    its subject alternative names.

    Raises:
        UserError: there is no authority, or a name is invalid.
    """
    if not re.fullmatch(NAME, name) or name == CA:
        raise UserError(
            f"certificate {name!r}: expected letters, digits, '.', '_', '-', and not ca"
        )
    authority, signing = _authority(folder)
    names = tuple(dict.fromkeys([*LOCAL_NAMES, socket.gethostname(), *sans]))
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _builder(subject, authority.subject, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_san(n) for n in names]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
        )
    )
    pair = _files(folder, name)
    _write(pair, key, builder.sign(signing, hashes.SHA256()))
    return pair, names


def names_in(certificate: Path) -> tuple[str, ...]:
    """The host names and addresses that a server's certificate is for; empty: it names none.

    Raises:
        UserError: it cannot be read.
    """
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    except (OSError, ValueError) as error:
        raise UserError(
            f"BENCHFARM_TLS_CERTIFICATE {certificate} cannot be used: "
            f"{getattr(error, 'strerror', None) or error}"
        ) from None
    addresses = names.get_values_for_type(x509.IPAddress)
    return (*names.get_values_for_type(x509.DNSName), *map(str, addresses))


def is_for(names: Sequence[str], host: str) -> bool:
    """Whether a certificate for ``names`` is one for ``host``; ``*.`` stands for one label."""
    wanted = host.lower().rstrip(".")
    rest = wanted.partition(".")[2]
    return any(n.lower() == wanted or (rest and n.lower() == f"*.{rest}") for n in names)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if not re.fullmatch(HOST, name) or len(name) > 253:
        raise UserError(f"--san {name!r}: expected a host name or an IP address")
    return x509.DNSName(name)


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    pair = _files(folder, CA)
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
        key = serialization.load_pem_private_key(pair.key.read_bytes(), password=None)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is not there: `benchfarm ca init` makes it") from None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"the authority in {folder} cannot be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UserError(f"{pair.key} was not made by `benchfarm ca init`")
    return certificate, key


def _files(folder: Path, name: str) -> CertificateFiles:
    return CertificateFiles(folder / f"{name}.pem", folder / f"{name}.key")


def _write(
    pair: CertificateFiles, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> None:
    from agent.worker.config import write_atomically

    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        pair.key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(pair.key, secret.decode(), mode=0o600)
        text = certificate.public_bytes(serialization.Encoding.PEM).decode()
        write_atomically(pair.certificate, text)
    except OSError as error:
        where = os.fspath(pair.key.parent)
        raise UserError(f"{where} cannot be written: {error.strerror}; --folder") from None
