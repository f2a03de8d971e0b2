"""Misspelt names: which are an error, and what was probably meant."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from harness.settings.catalogue import CONTROL, by_variable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Nobody else uses these prefixes: an unknown name is a misspelt one.
OWN_PREFIXES = ("LAKEGAUGE_", "LAKEBASE_", "AGENTBRICKS_", "BENCHMARK_")

# Other software uses these too: only a name very close to one of ours is an error.
SHARED_PREFIXES = ("DB_", "DATABRICKS_")
_NEAR_MISS_RATIO = 0.85
_OWN_RATIO = 0.5

# Names of the Databricks tools that look like ours and are not.
_FOREIGN = frozenset(
    {"DATABRICKS_CONFIG_FILE", "DATABRICKS_OIDC_TOKEN", "DATABRICKS_WORKSPACE"}
)


def did_you_mean(
    name: str, known: Iterable[str], also: Mapping[str, str] | None = None
) -> str:
    """Return `; did you mean x?`, or nothing where no known name is close.

    Args:
        name: The name that was given.
        known: The names there are.
        also: Other spellings, each with the name to propose for it.
    """
    spellings = {**(also or {}), **{k: k for k in known}}
    folded = {spelling.lower(): right for spelling, right in spellings.items()}
    close = difflib.get_close_matches(name.lower(), folded, n=1)
    return f"; did you mean {folded[close[0]]}?" if close else ""


def unknown_variable(name: str) -> str | None:
    """Judge an environment variable that is none of ours.

    Returns:
        None if it is somebody else's; otherwise the end of the error message.
    """
    upper = name.upper()
    known = [*by_variable(), *CONTROL]
    for prefix in (*OWN_PREFIXES, *SHARED_PREFIXES):
        if not upper.startswith(prefix):
            continue
        own = prefix in OWN_PREFIXES
        # The prefix is no sign of likeness, so only the rest is compared.
        rests = [k.removeprefix(prefix) for k in known if k.startswith(prefix)]
        close = difflib.get_close_matches(
            upper.removeprefix(prefix),
            rests,
            n=1,
            cutoff=_OWN_RATIO if own else _NEAR_MISS_RATIO,
        )
        if close and upper not in _FOREIGN:
            return f"; did you mean {prefix}{close[0]}?"
        if own:
            return "; see `lakegauge config help`"
    return None
