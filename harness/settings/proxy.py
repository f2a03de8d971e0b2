"""The HTTP proxy that the environment names for an address."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from harness.errors import ConfigError

MASK = "**********"


@dataclass(frozen=True, kw_only=True, slots=True)
class Proxy:
    """An HTTP proxy and who asks it.

    Attributes:
        address: `http://host:port`, or https; without user and password.
        username: Who asks, where the proxy wants to know.
        password: Theirs; reaches nothing but the Proxy-Authorization header.
    """

    address: str
    username: SecretStr | None = field(default=None, repr=False)
    password: SecretStr | None = field(default=None, repr=False)

    @classmethod
    def from_url(cls, url: str, *, named: str = "the proxy") -> Self:
        """Take a proxy's address apart.

        Args:
            url: `http://[user:password@]host:port`; `http://` may be left out.
            named: What it is called in an error, such as "HTTPS_PROXY".

        Raises:
            ConfigError: If it cannot be used. The value is not shown: it may hold
                a password.
        """
        wanted = f"{named} must be http://[user:password@]host:port"
        whole = url if "://" in url else f"http://{url}"
        port: int | None = None
        host = problem = None
        try:
            parts = urlsplit(whole)
            host, port = parts.hostname, parts.port
        except ValueError:
            problem = "it is no address"
        if problem is None and parts.scheme not in {"http", "https"}:
            problem = f"{parts.scheme} proxies are not supported"
        if problem is None and (not host or parts.path.strip("/") or parts.query):
            problem = "it names no host, or more than a host"
        if problem is not None or not host:
            # Outside the except block: urllib's message quotes the address.
            msg = f"{wanted}; {problem} (value not shown)"
            raise ConfigError(msg)
        if ":" in host:
            host = f"[{host}]"
        if port is None:
            port = 443 if parts.scheme == "https" else 80
        return cls(
            address=f"{parts.scheme}://{host}:{port}",
            username=_secret(parts.username),
            password=_secret(parts.password),
        )

    def credentials(self) -> tuple[bytes, bytes] | None:
        """Return user name and password as the header carries them; None if none."""
        if self.username is None and self.password is None:
            return None
        return _reveal(self.username), _reveal(self.password)

    def scrub(self, text: str) -> str:
        """Return *text* without the password, plain or as the header carries it."""
        pair = self.credentials()
        if pair is None:
            return text
        for secret in (b64encode(b":".join(pair)).decode(), pair[1].decode()):
            if secret:
                text = text.replace(secret, MASK)
        return text


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy for *url* that the environment names; None for none.

    HTTPS_PROXY or HTTP_PROXY by the address's scheme, else ALL_PROXY, in lower case
    too (which wins, as in curl); NO_PROXY lists hosts and domains asked directly.

    Raises:
        ConfigError: If that proxy cannot be used.
    """
    from urllib.request import (  # type: ignore[attr-defined] # known at run time
        getproxies_environment,
        proxy_bypass_environment,
    )

    proxies = getproxies_environment()
    parts = urlsplit(url)
    name = parts.scheme if proxies.get(parts.scheme) else "all"
    found = proxies.get(name)
    if not found or proxy_bypass_environment(parts.netloc, proxies):
        return None
    return Proxy.from_url(found, named=f"{name.upper()}_PROXY")


def _secret(quoted: str | None) -> SecretStr | None:
    return None if quoted is None else SecretStr(unquote(quoted))


def _reveal(secret: SecretStr | None) -> bytes:
    return b"" if secret is None else secret.get_secret_value().encode()
