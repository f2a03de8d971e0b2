"""Layered settings: the only reader of the environment.

Importing this package costs nothing: the models (and pydantic) load when the
first settings are asked for.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.settings.model import Settings
    from harness.settings.source import Source

__all__ = [
    "Settings",
    "Source",
    "child_environment",
    "load_settings",
    "redact",
]


def load_settings(
    overrides: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    root: Path | None = None,
    check: bool = True,
    config_file: str | Path | None = None,
) -> Settings:
    """Load every setting: overrides > environment > `.env` > JSON > preset > default.

    Args:
        overrides: Values that win over every layer, by setting (`pool.pool_size`)
            or by pytest option (`--target`). None means not given.
        environ: The environment variables; default those of this process.
        cwd: Where files are looked for first; default the current folder.
        root: The project root, looked in second; default the nearest folder at
            or above *cwd* that holds a `pyproject.toml`.
        check: Also check that the chosen target has what it needs.
        config_file: JSON file to read, before what LAKEGAUGE_CONFIG names.

    Raises:
        ConfigError: If anything is wrong; it lists every problem found.
    """
    from harness.settings.loading import load  # pydantic loads here

    if config_file is not None:
        variables = os.environ if environ is None else environ
        environ = {**variables, "LAKEGAUGE_CONFIG": str(config_file)}
    return load(overrides, environ=environ, cwd=cwd, root=root, check=check)


def child_environment(
    settings: Settings | None = None, *, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment for a child process, without what looks like a secret.

    Args:
        settings: Settings whose secrets must not be passed on; every secret
            loaded by this process is left out in any case.
        environ: The variables to filter; default those of this process.
    """
    from harness.settings.redaction import child_environment as filtered

    return filtered(settings.secrets() if settings else (), environ=environ)


def redact(text: str) -> str:
    """Return *text* with every secret loaded by this process replaced by `***`."""
    from harness.settings.redaction import redact as redacted

    return redacted(text)


def __getattr__(name: str) -> Any:
    """Load the models only when somebody asks for the classes themselves."""
    if name == "Settings":
        from harness.settings.model import Settings

        return Settings
    if name == "Source":
        from harness.settings.source import Source

        return Source
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
