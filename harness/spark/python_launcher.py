"""The Python that a local Spark starts: with the pyspark that is installed.

Spark puts an archive of pyspark's sources before all else on the path of its Python
processes. What is imported from an archive is compiled each time: a process that a
stream starts for its source then spends most of its beginning on that.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from typing import TYPE_CHECKING

from harness.spark.cache import cache_folder, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

# The archives are first on the path, in this order, if they are there at all.
_SCRIPT = """\
#!/bin/sh
# Leaves Spark's archives of pyspark and py4j out: both are installed, and compiled.
archives={archives}
PYTHONPATH=${PYTHONPATH#"$archives"/pyspark.zip:}
PYTHONPATH=${PYTHONPATH#"$archives"/py4j-*-src.zip:}
export PYTHONPATH
exec {python} "$@"
"""


def python_launcher(
    spark_home: Path, *, python: str = sys.executable, folder: Path | None = None
) -> str:
    """Return what Spark is to start as Python; *python* itself where none is needed.

    Args:
        spark_home: Folder of the Spark that pyspark brings. Its archives hold the very
            pyspark that *python* has installed.
        python: The interpreter.
        folder: Where launchers are kept.
    """
    archives = spark_home / "python" / "lib"
    if os.name != "posix" or not (archives / "pyspark.zip").exists():
        return python
    text = _SCRIPT.replace("{archives}", shlex.quote(str(archives)))
    script = text.replace("{python}", shlex.quote(python)).encode()
    name = f"python-{hashlib.sha256(script).hexdigest()[:12]}"
    path = (folder or cache_folder() / "python") / name
    if not path.exists():
        write_atomically(path, script, mode=0o755)
    return str(path)
