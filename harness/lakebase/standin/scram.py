"""The client's part of SCRAM-SHA-256, to log in to the backing Postgres."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from functools import lru_cache

MECHANISM = b"SCRAM-SHA-256"
_BARE_CHANNEL = "biws"  # base64 of "n,,": no channel binding


class Scram:
    """One exchange.

    Args:
        password: ASCII only, so it needs no normalisation.
    """

    def __init__(self, password: str) -> None:
        self._password = password
        self._nonce = secrets.token_urlsafe(18)
        self._bare = f"n=,r={self._nonce}"
        self._server_signature = b""

    def first(self) -> bytes:
        """Return the first message."""
        return f"n,,{self._bare}".encode()

    def final(self, server_first: bytes) -> bytes:
        """Return the answer to the server's first message.

        Raises:
            ValueError: It does not continue our exchange.
        """
        fields = dict(part.split("=", 1) for part in server_first.decode().split(","))
        if not fields["r"].startswith(self._nonce):
            msg = "the server continues another login"
            raise ValueError(msg)
        client_key, stored_key, server_key = _keys(
            self._password, base64.b64decode(fields["s"]), int(fields["i"])
        )
        without_proof = f"c={_BARE_CHANNEL},r={fields['r']}"
        signed = f"{self._bare},{server_first.decode()},{without_proof}".encode()
        signature = hmac.digest(stored_key, signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._server_signature = hmac.digest(server_key, signed, "sha256")
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, server_final: bytes) -> bool:
        """Tell whether the server knows the password too."""
        given = base64.b64decode(server_final.decode().removeprefix("v="))
        return hmac.compare_digest(given, self._server_signature)


@lru_cache(maxsize=64)
def _keys(password: str, salt: bytes, iterations: int) -> tuple[bytes, bytes, bytes]:
    # Cached: the salt of a role stays, and stretching takes milliseconds.
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    return client_key, stored_key, hmac.digest(salted, b"Server Key", "sha256")
