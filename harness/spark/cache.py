"""Where what was resolved once is kept for the next run."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from harness.settings import child_environment


def cache_folder() -> Path:
    """Return the user's cache folder for this project; it need not exist yet."""
    base = child_environment().get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "lakegauge"


def write_atomically(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file that another process sees whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
