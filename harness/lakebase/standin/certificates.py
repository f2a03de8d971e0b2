"""A certificate authority of one stand-in, thrown away with it."""

from __future__ import annotations

import ssl
import tempfile
from datetime import timedelta
from pathlib import Path

from harness.clock import SYSTEM_CLOCK
from harness.lakebase.standin.plan import DOMAIN

VALID_FOR = timedelta(days=30)
CLOCK_SKEW = timedelta(hours=1)


def make_tls() -> tuple[ssl.SSLContext, str]:
    """Return a server's TLS context and the authority's certificate in PEM.

    The authority signs one certificate for every host name of a stand-in; its key
    is forgotten at once.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = SYSTEM_CLOCK.now()

    def begin(
        name: str, issuer: str, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        def named(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        return (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(now + VALID_FOR)
        )

    authority = "lakegauge stand-in, not to be trusted by anybody else"
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = (
        begin(authority, authority, root_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    leaf = (
        begin(f"*.{DOMAIN}", authority, key)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(f"*.{DOMAIN}")]), critical=False
        )
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .sign(root_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["postgresql"])
    with tempfile.TemporaryDirectory(prefix="lakegauge-standin-") as folder:
        # ssl takes key and certificate from files only; the folder is ours alone.
        path = Path(folder) / "server.pem"
        path.write_bytes(
            key.private_bytes(
                pem,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + leaf.public_bytes(pem)
        )
        context.load_cert_chain(path)
    return context, root.public_bytes(pem).decode()
