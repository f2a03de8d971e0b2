"""The Lakebase database to measure, and how to log in to it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.settings.field import Group, Kind, Port, Secret, Setting, Text

TOKEN_TTL_MIN_S = 300
TOKEN_TTL_MAX_S = 3600

# What the service accepts for the lifetime of a database credential.
TokenTtl = Annotated[
    int,
    Field(ge=TOKEN_TTL_MIN_S, le=TOKEN_TTL_MAX_S),
    Kind(f"a whole number of seconds from {TOKEN_TTL_MIN_S} to {TOKEN_TTL_MAX_S}"),
]
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


class LakebaseSettings(Group):
    """A Lakebase endpoint or instance, or a host with a static password.

    The PG* variables that a Databricks App injects are read after ours.
    """

    endpoint: Annotated[
        Text | None,
        Setting(
            "LAKEBASE_ENDPOINT",
            "Autoscaling endpoint, projects/<p>/branches/<b>/endpoints/<e>.",
        ),
    ] = None
    project: Annotated[
        Text | None,
        Setting(
            "LAKEBASE_PROJECT",
            "Autoscaling project, whose endpoint is then looked up.",
        ),
    ] = None
    branch: Annotated[Text, Setting("LAKEBASE_BRANCH", "Branch of the project.")] = (
        "production"
    )
    instance_name: Annotated[
        Text | None,
        Setting("LAKEBASE_INSTANCE_NAME", "Provisioned instance.", json="name"),
    ] = None
    instance_id: Annotated[
        Text | None,
        Setting("LAKEBASE_INSTANCE_ID", "Id of the instance.", used=False),
    ] = None
    host: Annotated[
        Text | None,
        Setting(
            "LAKEBASE_HOST",
            "Host name; default what the endpoint or instance says.",
            fallbacks=("PGHOST",),
        ),
    ] = None
    port: Annotated[
        Port, Setting("LAKEBASE_PORT", "Port of the host.", fallbacks=("PGPORT",))
    ] = 5432
    database: Annotated[
        Text,
        Setting("LAKEBASE_DATABASE", "Database name.", fallbacks=("PGDATABASE",)),
    ] = "databricks_postgres"
    user: Annotated[
        Text | None,
        Setting(
            "LAKEBASE_USER",
            "Postgres role; default the identity of the workspace.",
            fallbacks=("PGUSER",),
        ),
    ] = None
    password: Annotated[
        Secret | None,
        Setting(
            "LAKEBASE_PASSWORD",
            "Static Postgres password; without one, tokens are minted.",
            fallbacks=("PGPASSWORD",),
        ),
    ] = None
    sslmode: Annotated[
        SslMode,
        Setting("LAKEBASE_SSLMODE", "TLS mode of libpq.", fallbacks=("PGSSLMODE",)),
    ] = "require"
    token_ttl_s: Annotated[
        TokenTtl,
        Setting("LAKEBASE_TOKEN_TTL_S", "Lifetime asked for a token, in seconds."),
    ] = TOKEN_TTL_MAX_S
