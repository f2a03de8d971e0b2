"""Where a connection may go without TLS: to hosts that a setting names."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# libpq modes that may end up without TLS.
WEAK_MODES = frozenset({"disable", "allow", "prefer"})


def forbidden_host(arguments: Mapping[str, Any], allowed: Sequence[str]) -> str | None:
    """Return the first host that must not be reached in the clear, or None.

    Args:
        arguments: For libpq: `host` and `hostaddr`, each maybe several with commas.
        allowed: Host names and addresses that may.
    """
    hosts = str(arguments.get("host") or "").split(",")
    addresses = str(arguments.get("hostaddr") or "").split(",")
    number = max(len(hosts), len(addresses))
    hosts += [""] * (number - len(hosts))
    addresses += [""] * (number - len(addresses))
    for host, address in zip(hosts, addresses, strict=True):
        if not _is_allowed(host.lower(), address, {name.lower() for name in allowed}):
            return host or address
    return None


def default_sslmode() -> str:
    """Return libpq's own default, which PGSSLMODE may have made stricter."""
    from psycopg import pq

    options = {option.keyword: option.val for option in pq.Conninfo.get_defaults()}
    return (options.get(b"sslmode") or b"prefer").decode()


def _is_allowed(host: str, address: str, allowed: set[str]) -> bool:
    if host.startswith(("/", "@")) or not (host or address):
        return True  # a socket of this machine, which knows no TLS
    if host == "localhost" and address and not _is_loopback(address):
        # Every machine has this name; where it really leads decides.
        return address in allowed
    return host in allowed or address in allowed


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False  # libpq will say what is wrong with it
