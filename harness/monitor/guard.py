"""Who may ask: this machine, or whoever has the token. Nobody from another page."""

from __future__ import annotations

import hmac
import ipaddress
from http import HTTPStatus
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from fastapi.responses import JSONResponse, RedirectResponse

from harness.errors import ConfigError
from harness.monitor.views import Problem

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from pydantic import SecretStr
    from starlette.types import ASGIApp, Receive, Scope, Send

TOKEN_LENGTH_MIN = 16
TOKEN_HEADER = b"x-lakegauge-token"
COOKIE = "lakegauge_token"
# Said before a WebSocket is accepted: the server answers 403.
POLICY_VIOLATION = 1008

# Nothing from elsewhere, and nothing inline: what a report holds cannot run.
SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether the name or address can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def checked_token(token: SecretStr | None) -> SecretStr | None:
    """Return the token if it is worth having.

    Raises:
        ConfigError: It is short enough to be guessed.
    """
    if token is not None and len(token.get_secret_value()) < TOKEN_LENGTH_MIN:
        msg = (
            f"LAKEGAUGE_MONITOR_TOKEN has fewer than {TOKEN_LENGTH_MIN} characters; "
            "python -c 'import secrets; print(secrets.token_urlsafe())' makes one"
        )
        raise ConfigError(msg)
    return token


class Guard:
    """Stands before every request and every WebSocket.

    Without a token it answers to the names of this machine only. A page elsewhere
    may let its own name resolve to 127.0.0.1 and would then read what is served
    here; it cannot choose the Host header, which still holds its name.

    With a token it answers to any name, to whoever has it: in `Authorization:
    Bearer`, in `X-Lakegauge-Token`, or in the cookie that `/dashboard?token=` sets,
    because a browser sends no header with a WebSocket.

    A request that a page of another origin makes is refused in both cases, although
    the page could not read the answer: it might do something.

    Args:
        app: What is guarded.
        token: Needed from everybody, also from this machine; None asks for none.
    """

    def __init__(self, app: ASGIApp, token: SecretStr | None = None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: MutableMapping[str, object]) -> None:
            if message["type"] == "http.response.start":
                headers = message.setdefault("headers", [])
                assert isinstance(headers, list)  # noqa: S101  # ASGI says so
                headers += [
                    (name.encode(), value.encode())
                    for name, value in SECURITY_HEADERS.items()
                ]
            await send(message)

        refused = self._refusal(scope)
        if refused is None:
            await self._app(scope, receive, send_guarded)
        elif scope["type"] == "websocket":
            await receive()  # websocket.connect
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
        elif self._brings_token(scope):
            onward = RedirectResponse(scope["path"], HTTPStatus.SEE_OTHER)
            token = self._token.get_secret_value() if self._token else ""
            onward.set_cookie(COOKIE, token, httponly=True, samesite="strict")
            await onward(scope, receive, send_guarded)
        else:
            status, said = refused
            answer = JSONResponse(Problem(detail=said).model_dump(), status)
            if status == HTTPStatus.UNAUTHORIZED:
                answer.headers["www-authenticate"] = "Bearer"
            await answer(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> tuple[HTTPStatus, str] | None:
        """Return why a request is not answered, if it is not."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin1")
        if self._token is None and not is_loopback(_without_port(host)):
            said = f"Host {host!r} is not this machine; use localhost"
            return HTTPStatus.MISDIRECTED_REQUEST, said
        origin = headers.get(b"origin", b"").decode("latin1")
        is_foreign = origin and urlsplit(origin).netloc.lower() != host.lower()
        if is_foreign or headers.get(b"sec-fetch-site") == b"cross-site":
            return HTTPStatus.FORBIDDEN, "a page of another origin may not ask"
        if self._token is not None and not self._is_known(headers):
            said = "a token is needed: Authorization: Bearer LAKEGAUGE_MONITOR_TOKEN"
            return HTTPStatus.UNAUTHORIZED, said
        return None

    def _is_known(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
        cookies = SimpleCookie()
        cookies.load(headers.get(b"cookie", b"").decode("latin1"))
        cookie = cookies[COOKIE].value.encode("latin1") if COOKIE in cookies else b""
        given = (
            bearer.strip() if scheme.lower() == b"bearer" else b"",
            headers.get(TOKEN_HEADER, b""),
            cookie,
        )
        # All are compared, whichever fits, in a time that tells nothing.
        return True in [self._fits(value) for value in given]

    def _fits(self, given: bytes) -> bool:
        assert self._token is not None  # noqa: S101  # asked only where there is one
        return hmac.compare_digest(given, self._token.get_secret_value().encode())

    def _brings_token(self, scope: Scope) -> bool:
        """Whether this is somebody opening the dashboard with the token in its URL."""
        if self._token is None or scope["method"] != "GET":
            return False
        if not scope["path"].endswith("/dashboard"):
            return False
        query = parse_qs(scope["query_string"].decode("latin1"))
        return self._fits(query.get("token", [""])[0].encode())


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
