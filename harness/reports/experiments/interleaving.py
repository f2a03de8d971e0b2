"""May the runs of an experiment take turns case by case, or only one by one?"""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

from harness.errors import ConfigError
from harness.reports.experiments.building import path_variable
from harness.settings import child_environment, load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.reports.experiments.building import Built

CHOICES = ("auto", "cases", "runs")
_OWN_SERVER = ("docker", "embedded")
_TARGET = re.compile(r"(?:--target[= ]|LAKEGAUGE_TARGET=)(\w+)")
# Each may point to a server that both sides would use.
_MAY_SHARE = re.compile(r"_DSN=|LAKEBASE_|LAKEGAUGE_(ENV_FILE|CONFIG)=|--config")


def takes_turns(
    wanted: str, texts: Sequence[str], sides: Sequence[Built]
) -> tuple[bool, str]:
    """Tell whether the runs take turns case by case, and why if not.

    Runs side by side are each other's neighbours: on a server that both use, one
    would find the tables that the other has made. With a server each there is no
    such thing.

    Args:
        wanted: "auto", "cases" or "runs".
        texts: What was said of the sides and to pytest on the command line.
        sides: The sides.

    Raises:
        ConfigError: If *wanted* is none of the three, or they cannot take turns.
    """
    if wanted not in CHOICES:
        msg = f"--interleave: {wanted!r} must be one of {', '.join(CHOICES)}"
        raise ConfigError(msg)
    if wanted == "runs":
        return False, "as asked for"
    cannot = _cannot(sides)
    if wanted == "cases":
        if cannot:
            msg = f"--interleave=cases: {cannot}"
            raise ConfigError(msg)
        return True, ""
    reason = cannot or _shared_server(texts)
    return not reason, reason


def _cannot(sides: Sequence[Built]) -> str:
    if os.name != "posix":
        return "this system cannot hand a socket to a child"
    for side in sides:
        if side.variant.kind in {"revision", "environment"}:
            done = subprocess.run(  # noqa: S603  # the side's own interpreter
                [side.python, "-c", "import harness.reports.experiments.turns"],
                cwd=side.folder,
                env=child_environment() | path_variable(side),
                capture_output=True,
                check=False,
            )
            if done.returncode:
                return f"the lakegauge of {side.variant.text} knows no turns"
    return ""


def _shared_server(texts: Sequence[str]) -> str:
    """Return why both sides might use one server; "" if each has its own."""
    named = [name for text in texts for name in _TARGET.findall(text)]
    if any(name not in _OWN_SERVER for name in named):
        return "both would use one server"
    if any(_MAY_SHARE.search(text) for text in texts):
        return "both might use one server"
    if named:
        return ""
    settings = load_settings(check=False)
    target = settings.target.target
    if target in _OWN_SERVER:
        return ""
    configured = (
        settings.target.postgres_dsn,
        settings.lakebase.endpoint,
        settings.lakebase.instance_name,
    )
    if target != "auto" or any(value is not None for value in configured):
        return "both would use one server"
    return ""
