"""What every connection must keep to."""

from __future__ import annotations

from typing import Annotated

from harness.settings.field import Flag, Group, Hosts, Setting, Text


class SecuritySettings(Group):
    """TLS and what is told about us."""

    ssl_require: Annotated[
        Flag, Setting("SSL_REQUIRE", "Refuse a connection that is not encrypted.")
    ] = True
    plaintext_hosts: Annotated[
        Hosts,
        Setting(
            "SSL_PLAINTEXT_HOSTS",
            "Hosts that SSL_REQUIRE lets through without TLS.",
        ),
    ] = ("localhost", "127.0.0.1", "::1")
    application_name: Annotated[
        Text,
        Setting(
            "APPLICATION_NAME",
            "Name of our connections in pg_stat_activity.",
            fallbacks=("PGAPPNAME",),
        ),
    ] = "lakebase_benchmark"
    log_credentials: Annotated[
        Flag,
        Setting(
            "LOG_CREDENTIALS",
            "Must stay false: credentials are never logged.",
            used=False,
        ),
    ] = False
