"""Finding and reading the `.env` file and the JSON file."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dotenv.parser import parse_stream

from harness.errors import ConfigError
from harness.settings.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterable

DOTENV_NAME = ".env"
JSON_NAME = "lakegauge.json"


def project_root(cwd: Path) -> Path | None:
    """Return the nearest folder at or above *cwd* that holds a `pyproject.toml`."""
    for folder in (cwd, *cwd.parents):
        if (folder / "pyproject.toml").exists():
            return folder
    return None


def read_text(
    *, named: str | None, control: str, default_name: str, folders: Iterable[Path]
) -> tuple[Path, str] | None:
    """Read the file a variable names, else the first one found, else nothing.

    Args:
        named: The path the control variable gives, or None.
        control: The control variable's name.
        default_name: The file's name where it is only looked for.
        folders: Where to look, in order; a relative *named* starts at the first.

    Raises:
        ConfigError: If the file exists and cannot be read, or is named and does
            not exist.
    """
    folders = list(folders)
    if named is not None:
        path = folders[0] / Path(named).expanduser()
        text = _read(path, control)
        if text is None:
            msg = (
                f"{path}: no such file, but {control} names it; "
                f"create it or unset {control}"
            )
            raise ConfigError(msg)
        return path, text
    for folder in folders:
        path = folder / default_name
        text = _read(path, control)
        if text is not None:
            return path, text
    return None


def _read(path: Path, control: str) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        msg = f"{path}: is a folder, not a file; name the file with {control}"
    except PermissionError:
        msg = (
            f"{path}: no permission to read it; run `chmod u+r {path}` as its owner, "
            f"or name another file with {control}"
        )
    except UnicodeDecodeError as error:
        msg = f"{path}: not UTF-8 text (byte {error.start + 1}); save it as UTF-8"
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); check the file"
    # Outside the except block: the cause holds the file's content.
    raise ConfigError(msg)


def parse_dotenv(
    text: str, file: Path
) -> tuple[list[tuple[str, str, Source]], list[str]]:
    """Return the variables of a `.env` file, and the lines that are none.

    Values are taken as written: `${NAME}` is not expanded, so that a password
    may hold any character.
    """
    variables: list[tuple[str, str, Source]] = []
    problems: list[str] = []
    for binding in parse_stream(io.StringIO(text)):
        original = binding.original
        blank = len(original.string) - len(original.string.lstrip())
        line = original.line + original.string[:blank].count("\n")
        if binding.error or (binding.key and binding.value is None):
            # The line itself may be a secret, so only its number is shown.
            problems.append(f"{file} line {line}: not of the form NAME=value")
        elif binding.key and binding.value is not None:
            source = Source(layer=".env", name=binding.key, file=file, line=line)
            variables.append((binding.key, binding.value, source))
    return variables, problems


def parse_json(text: str, file: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        ConfigError: If it is no JSON, no object, or has a key twice.
    """
    try:
        document = json.loads(text, object_pairs_hook=_no_key_twice)
    except json.JSONDecodeError as error:
        msg = f"{file} line {error.lineno} column {error.colno}: not JSON: {error.msg}"
    except _KeyTwiceError as error:
        msg = f"{file}: the key {error.args[0]!r} is there twice; keep one"
    except RecursionError:
        msg = f"{file}: nested too deeply"
    else:
        if isinstance(document, dict):
            return document
        msg = f"{file}: must hold one JSON object of sections, such as {{}}"
    raise ConfigError(msg)


class _KeyTwiceError(Exception):
    pass


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _KeyTwiceError(key)
        found[key] = value
    return found
