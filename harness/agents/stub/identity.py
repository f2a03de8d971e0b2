"""Whom a stub lets in: one token, and those its OAuth paths have given out."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from harness.agents.stub.http1 import RejectedError, Request
from harness.clock import NS_PER_S

if TYPE_CHECKING:
    from harness.clock import Clock

WELL_KNOWN = "/.well-known/databricks-config"
OIDC_METADATA = "/oidc/.well-known/oauth-authorization-server"
OIDC_TOKEN = "/oidc/v1/token"  # noqa: S105 - a path
OPEN_PATHS = frozenset({WELL_KNOWN, OIDC_METADATA, OIDC_TOKEN})


class Identity:
    """Checks tokens, and mints them for one service principal.

    Args:
        token: The bearer token that is always accepted.
        client_id: The service principal.
        client_secret: Its secret.
        ttl_s: How long a minted token is accepted, in seconds.
        clock: Measures that.
    """

    def __init__(
        self,
        *,
        token: str,
        client_id: str,
        client_secret: str,
        ttl_s: float,
        clock: Clock,
    ) -> None:
        self.minted_count = 0
        self._token = token.encode("latin-1")
        pair = f"{client_id}:{client_secret}".encode()
        self._basic = b"Basic " + base64.b64encode(pair)
        self._form = (client_id, client_secret)
        self._ttl_s = ttl_s
        self._clock = clock
        # Tokens given out and when they end.
        self._minted: dict[bytes, int] = {}

    def authorize(self, request: Request) -> None:
        """Check the bearer token.

        Raises:
            RejectedError: If it is missing, unknown or expired.
        """
        given = request.headers.get("authorization", "").encode("latin-1")
        kind, _, token = given.partition(b" ")
        if kind.lower() == b"bearer":
            if hmac.compare_digest(token, self._token):
                return
            ends_ns = self._minted.get(token)
            if ends_ns is not None and self._clock.monotonic_ns() < ends_ns:
                return
        raise RejectedError(
            401,
            "UNAUTHENTICATED",
            "Credential was not sent or was of an unsupported type for this API.",
        )

    def revoke(self) -> None:
        """Accept none of the tokens given out so far any more."""
        self._minted.clear()

    def serve(self, request: Request, *, origin: str) -> dict[str, Any]:
        """Answer a request to one of `OPEN_PATHS`.

        Raises:
            RejectedError: If the service principal is not known.
        """
        if request.path == WELL_KNOWN:
            return {"oidc_endpoint": f"{origin}/oidc"}
        if request.path == OIDC_METADATA:
            return {
                "issuer": f"{origin}/oidc",
                "authorization_endpoint": f"{origin}/oidc/v1/authorize",
                "token_endpoint": f"{origin}/oidc/v1/token",
            }
        form = {name: v[0] for name, v in parse_qs(request.body.decode()).items()}
        if form.get("grant_type") != "client_credentials":
            raise RejectedError(400, "unsupported_grant_type", "client_credentials")
        if not self._knows(request, form):
            raise RejectedError(401, "invalid_client", "Client authentication failed")
        token = secrets.token_urlsafe(32)
        ends_ns = self._clock.monotonic_ns() + round(self._ttl_s * NS_PER_S)
        self._minted[token.encode("latin-1")] = ends_ns
        self.minted_count += 1
        return {
            "access_token": token,
            "token_type": "Bearer",
            "scope": form.get("scope", "all-apis"),
            "expires_in": max(1, round(self._ttl_s)),
        }

    def _knows(self, request: Request, form: dict[str, str]) -> bool:
        given = request.headers.get("authorization", "").encode("latin-1")
        if given:
            try:
                base64.b64decode(given.partition(b" ")[2], validate=True)
            except binascii.Error:
                return False
            return hmac.compare_digest(given, self._basic)
        in_form = (form.get("client_id", ""), form.get("client_secret", ""))
        return hmac.compare_digest(
            "\0".join(in_form).encode(), "\0".join(self._form).encode()
        )
