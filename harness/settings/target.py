"""Which Postgres is measured, and where it comes from."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, SecretStr
from pydantic_core import PydanticCustomError

from harness.settings.field import Folder, Group, Kind, Seconds, Secret, Setting, Text

TargetName = Literal["auto", "dsn", "docker", "embedded", "lakebase"]

_URL = re.compile(r"postgres(ql)?://", re.IGNORECASE)
_KEYWORD = re.compile(r"\s*\w+\s*=")


def looks_like_dsn(text: str) -> bool:
    """Tell whether *text* is a connection string of either form."""
    return bool(_URL.match(text) or _KEYWORD.match(text))


def holds_password(text: str) -> bool:
    """Tell whether a connection string may hold a password; in doubt, it does."""
    if re.search(r"(password|token)\s*=", text, re.IGNORECASE):
        return True
    _, scheme, rest = text.partition("://")
    user, at, _ = rest.partition("?")[0].rpartition("@")
    return bool(scheme and at and ":" in user)


def _dsn(value: Any) -> Any:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if isinstance(text, str) and not looks_like_dsn(text):
        raise PydanticCustomError(
            "dsn",
            "must be postgresql://user:password@host:port/database "
            "or the keyword form host=... dbname=...",
        )
    return value


class TargetSettings(Group):
    """Where the Postgres under test comes from."""

    target: Annotated[
        TargetName,
        Kind(
            f"one of {', '.join(get_args(TargetName))}; "
            "a connection string belongs in LAKEGAUGE_POSTGRES_DSN"
        ),
        Setting(
            "LAKEGAUGE_TARGET",
            "Which Postgres to measure; auto takes the first that answers.",
            option="--target",
        ),
    ] = "auto"
    postgres_dsn: Annotated[
        Annotated[Secret, BeforeValidator(_dsn), Kind("a connection string")] | None,
        Setting(
            "LAKEGAUGE_POSTGRES_DSN",
            "Connection string of an existing Postgres, URL or keyword form.",
        ),
    ] = None
    postgres_image: Annotated[
        Text, Setting("LAKEGAUGE_POSTGRES_IMAGE", "Container image for target docker.")
    ] = "postgres:17"
    docker_pull_timeout_s: Annotated[
        Seconds,
        Setting(
            "LAKEGAUGE_DOCKER_PULL_TIMEOUT_S",
            "Longest wait for the container image, in seconds.",
        ),
    ] = 120.0
    postgres_bin_dir: Annotated[
        Folder | None,
        Setting(
            "LAKEGAUGE_POSTGRES_BIN_DIR",
            "Folder of initdb and postgres for target embedded; "
            "default the installed wheel's.",
        ),
    ] = None
