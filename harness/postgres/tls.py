"""A certificate for one server of one run."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import timedelta

from harness.clock import SYSTEM_CLOCK, Clock

VALID_FOR = timedelta(days=30)


@dataclass(frozen=True, kw_only=True, slots=True)
class Certificate:
    """A self-signed certificate and its private key, both in PEM.

    Attributes:
        certificate_pem: Given to the client too, as the only root it trusts.
        key_pem: For the server alone; never shown.
    """

    certificate_pem: bytes
    key_pem: bytes

    def __repr__(self) -> str:
        """Show nothing of the key."""
        return "Certificate(***)"


def make_certificate(*, clock: Clock = SYSTEM_CLOCK) -> Certificate:
    """Make a certificate for a server on the loopback interface."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lakegauge")])
    names = x509.SubjectAlternativeName(
        [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.IPAddress(ipaddress.ip_address("::1")),
        ]
    )
    now = clock.now()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A container's clock may be a little behind ours.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + VALID_FOR)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Certificate(
        certificate_pem=certificate.public_bytes(serialization.Encoding.PEM),
        key_pem=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
