"""The embedded Postgres behind a stand-in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.postgres.server import Server
    from harness.settings import Settings

# Computes up to 4 units reach their own limit before they reach this one.
BACKING_CONNECTIONS = 900


def start_plain_backing(settings: Settings) -> Server:
    """Start an embedded Postgres without TLS, which the stand-in's front ends.

    Of its own, because stand-ins end sessions and empty caches; without TLS, because
    a second encryption behind the first would only cost time.
    """
    from harness.postgres.embedded import start_embedded

    return start_embedded(
        settings,
        reason="behind a stand-in",
        tls=False,
        max_connections=BACKING_CONNECTIONS,
    )
