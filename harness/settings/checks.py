"""Combinations of settings that cannot work, and what a target still needs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from harness.settings.catalogue import by_path
from harness.settings.layers import Problem
from harness.settings.redaction import show
from harness.settings.target import TargetName

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.settings.model import Settings

# What `missing_for` knows the needs of.
SUBJECTS = (*get_args(TargetName), "agent")

# libpq modes that may end up without encryption.
_UNENCRYPTED_MODES = frozenset({"disable", "allow", "prefer"})

# Set where Databricks' own tools find the workspace and the identity themselves.
_AMBIENT = frozenset(
    {"DATABRICKS_AUTH_TYPE", "DATABRICKS_CONFIG_FILE", "DATABRICKS_RUNTIME_VERSION"}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Missing:
    """Something a target needs and has not got.

    Attributes:
        need: The settings that would do, by path.
        text: What is missing and how to give it.
    """

    need: tuple[str, ...]
    text: str


def combination_problems(settings: Settings) -> list[Problem]:
    """Return what is wrong whatever the target is."""
    problems: list[Problem] = []
    pool = settings.pool
    if pool.pool_size + pool.max_overflow < 1:
        problems.append(
            _impossible(settings, "pool.pool_size", "pool.max_overflow",
                        why="together they allow no connection at all; "
                            "their sum must be at least 1")
        )  # fmt: skip
    named = [
        path
        for path in ("lakebase.endpoint", "lakebase.project", "lakebase.instance_name")
        if settings.value_of(path) is not None
    ]
    if len(named) > 1:
        problems.append(
            _impossible(settings, *named,
                        why="these name more than one database; keep one")
        )  # fmt: skip
    return problems


def target_problems(settings: Settings, target: str) -> list[Problem]:
    """Return what keeps *target* from working."""
    problems = [
        Problem(f"target {target!r}: {missing.text}", frozenset(missing.need))
        for missing in missing_for(settings, target)
    ]
    lakebase = settings.lakebase
    if (
        target == "lakebase"
        and settings.security.ssl_require
        and lakebase.sslmode in _UNENCRYPTED_MODES
        and lakebase.host not in settings.security.plaintext_hosts
    ):
        problems.append(
            _impossible(settings, "lakebase.sslmode", "security.ssl_require",
                        why="this mode may send everything unencrypted; "
                            "use require, verify-ca or verify-full, or name "
                            "LAKEBASE_HOST in SSL_PLAINTEXT_HOSTS too")
        )  # fmt: skip
    return problems


def missing_for(settings: Settings, subject: str) -> list[Missing]:
    """Return what a target, or the subject `agent`, needs and has not got."""
    if subject == "dsn":
        return _needed(settings, "target.postgres_dsn")
    if subject == "agent":
        return _missing_for_agent(settings)
    if subject == "lakebase":
        return _missing_for_lakebase(settings)
    return []


def workspace_missing(
    settings: Settings,
    *,
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
) -> list[Missing]:
    """Return what the Lakebase target lacks to mint tokens in a workspace.

    Kept apart from `missing_for`: Databricks' own tools find an identity in more
    places than we know, so this is advice and never keeps a run from starting.
    """
    lakebase, databricks = settings.lakebase, settings.databricks
    variables = os.environ if environ is None else environ
    config_file = (home or Path.home()) / ".databrickscfg"
    if (
        lakebase.password is not None
        or databricks.config_profile is not None
        or _AMBIENT.intersection(variables)
        or config_file.exists()
    ):
        return []
    missing = _needed(settings, "databricks.workspace_url")
    credentials = ("personal_access_token", "oauth_token", "client_secret")
    if all(getattr(databricks, name) is None for name in credentials):
        need = tuple(f"databricks.{name}" for name in credentials)
        text = (
            "set DATABRICKS_TOKEN, DATABRICKS_OAUTH_TOKEN, or DATABRICKS_CLIENT_ID "
            "with DATABRICKS_CLIENT_SECRET; or DATABRICKS_CONFIG_PROFILE"
        )
        missing.append(Missing(need=need, text=text))
    return missing


def _missing_for_agent(settings: Settings) -> list[Missing]:
    databricks = settings.databricks
    missing: list[Missing] = []
    # A token of its own, or a login that gets one and knows the workspace.
    oauth = databricks.client_id is not None and databricks.client_secret is not None
    login = oauth or databricks.config_profile is not None
    if not login:
        missing += _needed(settings, "agent.token")
    known = databricks.config_profile or (oauth and databricks.workspace_url)
    if settings.agent.token is not None or not known:
        missing += _needed(settings, "agent.base_url")
    return missing + _needed(settings, "agent.model")


def _missing_for_lakebase(settings: Settings) -> list[Missing]:
    lakebase = settings.lakebase
    named = (lakebase.endpoint, lakebase.project, lakebase.instance_name)
    if not any(named):
        if lakebase.host is None:
            text = (
                "set LAKEBASE_ENDPOINT or LAKEBASE_PROJECT (Autoscaling) or "
                "LAKEBASE_INSTANCE_NAME (Provisioned); or LAKEBASE_HOST with "
                "LAKEBASE_USER and LAKEBASE_PASSWORD"
            )
            need = ("lakebase.endpoint", "lakebase.instance_name", "lakebase.host")
            return [Missing(need=need, text=text)]
        if lakebase.password is None and _is_app(settings):
            # What a Databricks App is given; its endpoint is found by the host.
            return []
        # A host alone says nothing about where tokens for it come from.
        return _needed(settings, "lakebase.user", "lakebase.password")
    if lakebase.password is not None:
        return _needed(settings, "lakebase.host", "lakebase.user")
    databricks = settings.databricks
    missing: list[Missing] = []
    if databricks.client_secret is not None and databricks.client_id is None:
        missing += _needed(settings, "databricks.client_id")
    return missing


def _is_app(settings: Settings) -> bool:
    """Whether there is an identity of a service principal, as an App has."""
    databricks = settings.databricks
    return None not in (
        databricks.workspace_url,
        databricks.client_id,
        databricks.client_secret,
    )


def _needed(settings: Settings, *paths: str) -> list[Missing]:

    return [
        Missing(need=(path,), text=f"set {info.setting.env} ({info.description})")
        for path in paths
        if settings.value_of(path) is None
        for info in [by_path()[path]]
    ]


def _impossible(settings: Settings, *paths: str, why: str) -> Problem:

    values = " and ".join(
        f"{path} = {show(settings.value_of(path))} ({settings.source_of(path)})"
        for path in paths
    )
    return Problem(f"{values}: {why}", frozenset(paths))
