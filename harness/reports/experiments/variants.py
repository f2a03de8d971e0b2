"""What a side of an A/B experiment is: a revision, an environment, or a setting."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import ConfigError
from harness.settings.catalogue import secret_variables

VariantKind = Literal["revision", "environment", "options", "variable"]

_VARIABLE = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)", re.DOTALL)
_PYTHONS = ("bin/python", "Scripts/python.exe")


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One side, as it was named on the command line.

    Attributes:
        text: The words of the command line.
        kind: How they were understood.
        python: Interpreter of an environment.
        options: Arguments that pytest gets besides those of both sides.
        variables: Environment variables set for this side alone.
    """

    text: str
    kind: VariantKind
    python: Path | None = None
    options: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


def variant_of(text: str) -> Variant:
    """Understand one side: `--pool=queue`, `DB_POOL_SIZE=40`, a venv, or a git ref.

    Whatever is none of the first three is a git revision; `.` is the working tree.

    Raises:
        ConfigError: If it is empty, or would put a secret on a command line.
    """
    if not text.strip():
        msg = "a side is empty: name a git revision, an environment or a setting"
        raise ConfigError(msg)
    if text.startswith("-"):
        return Variant(text=text, kind="options", options=tuple(shlex.split(text)))
    assigned = _VARIABLE.fullmatch(text)
    if assigned:
        name, value = assigned.groups()
        if name in secret_variables():
            msg = (
                f"{name} is a secret: a command line is seen by every user of the "
                "machine. Put it into two .env files and name them as "
                "LAKEGAUGE_ENV_FILE=a.env and LAKEGAUGE_ENV_FILE=b.env"
            )
            raise ConfigError(msg)
        return Variant(text=text, kind="variable", variables=((name, value),))
    python = _python_of(Path(text))
    if python is not None:
        return Variant(text=text, kind="environment", python=python)
    return Variant(text=text, kind="revision")


def _python_of(path: Path) -> Path | None:
    """Return the interpreter of a virtual environment, or the one that is named."""
    if path.is_file() and path.name.startswith("python"):
        # Not resolved: the link is what makes it the environment's.
        return path.absolute()
    for name in _PYTHONS:
        if (path / name).is_file():
            return (path / name).absolute()
    return None
