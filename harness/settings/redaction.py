"""Keeping secrets out of what is shown, written or handed to child processes."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pydantic import SecretStr

from harness.settings.catalogue import secret_variables
from harness.settings.target import holds_password

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MASK = "***"

# A shorter secret is a common word sooner than a find.
_SECRET_LENGTH_MIN = 4

_SECRET_NAME = re.compile(
    r"TOKENS?(_|$)|PASSW(OR)?D|PASSPHRASE|SECRET|DSN|(API)?KEYS?(_|$)|CREDENTIAL",
    re.IGNORECASE,
)
# In a URL, as a keyword (quoted or not), or as the token of a Spark address.
_PASSWORD_IN_DSN = re.compile(
    r"""://[^:/@]*:([^@]+)@ | (?:password|token)\s*=\s*(?:'([^']*)'|([^\s;&']+))""",
    re.IGNORECASE | re.VERBOSE,
)
_PROXY_NAME = re.compile(r"(^|_)proxy$", re.IGNORECASE)

# Without these a child does not start at all. A secret that is found in one of
# them ("postgres" in PATH) is a word, not a secret.
_NEEDED = frozenset({
    "HOME", "JAVA_HOME", "LANG", "LOGNAME", "PATH", "PWD", "SHELL", "SYSTEMROOT",
    "TEMP", "TMP", "TMPDIR", "USER", "VIRTUAL_ENV",
})  # fmt: skip

_loaded: set[str] = set()


def remember(secrets: Iterable[str]) -> None:
    """Note secrets that this process has read, for `redact` and children."""
    _loaded.update(_with_parts(secrets))


def _with_parts(secrets: Iterable[str]) -> set[str]:
    """Return secrets and the passwords inside those that are connection strings."""
    parts: set[str] = set()
    for secret in secrets:
        found = [secret]
        for match in _PASSWORD_IN_DSN.finditer(secret):
            password = next(filter(None, match.groups()), "")
            # Drivers put the decoded password into their messages.
            found += [password, unquote(password)]
        parts.update(part for part in found if len(part) >= _SECRET_LENGTH_MIN)
    return parts


def reveal(value: Any) -> str:
    """Return the text of a value that may be wrapped as a secret."""
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def redact(text: str) -> str:
    """Replace every secret this process has read by `***`."""
    # Longest first: a secret that is part of another must not leave its rest.
    for secret in sorted(_loaded, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def show(value: Any, *, secret: bool = False) -> str:
    """Return a value as it may be shown in a message or a table."""
    if secret or isinstance(value, SecretStr):
        return MASK
    if isinstance(value, str) and holds_password(value):
        return f"{MASK} (not shown: it may hold a password)"
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return redact(repr(value) if isinstance(value, str) else str(value))


def child_environment(
    secrets: Iterable[str] = (), *, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the variables that a child process may have."""
    values = _loaded | _with_parts(secrets)
    variables = os.environ if environ is None else environ
    return {
        name: value
        for name, value in variables.items()
        if name in _NEEDED or not _is_secret(name, value, values)
    }


def _is_secret(name: str, value: str, secrets: set[str]) -> bool:
    if name in secret_variables() or _SECRET_NAME.search(name):
        return True
    # A proxy's password stays: without it the child has no network.
    if holds_password(value) and not _PROXY_NAME.search(name):
        return True
    return any(secret in value for secret in secrets)
