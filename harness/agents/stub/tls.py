"""HTTPS for a stub: a certificate of its own, good or bad as planned."""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from harness.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from harness.agents.stub.plan import Tls
    from harness.clock import Clock

VALID_FOR = timedelta(days=30)


def server_context(tls: Tls) -> tuple[ssl.SSLContext, str]:
    """Return the server's TLS and the root a client is told to trust, in PEM."""
    certificate, key = _make_certificate(tls)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Only a file can be loaded; it is gone before the first client comes.
    with tempfile.TemporaryDirectory() as folder:
        chain = Path(folder) / "chain.pem"
        chain.touch(mode=0o600)
        chain.write_bytes(key + certificate)
        context.load_cert_chain(chain)
    trusted = _make_certificate("on")[0] if tls == "untrusted" else certificate
    return context, trusted.decode()


def _make_certificate(tls: Tls, *, clock: Clock = SYSTEM_CLOCK) -> tuple[bytes, bytes]:
    """Return (certificate, private key) in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lakegauge stub")])
    names: list[x509.GeneralName] = [x509.DNSName("other.invalid")]
    if tls != "wrong-host":
        names = [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
    now = clock.now()
    ends = now - timedelta(hours=1) if tls == "expired" else now + VALID_FOR
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
