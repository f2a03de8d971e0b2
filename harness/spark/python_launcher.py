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

# They may be there more than once. The jar of Spark's classes holds no Python, but its
# contents would be read as well.
_SCRIPT = """\
#!/bin/sh
# Leaves Spark's archives of pyspark and py4j out: both are installed, and compiled.
spark={spark}
kept=
set -f
IFS=:
for entry in $PYTHONPATH; do
  case $entry in
  "$spark"/python/lib/pyspark.zip | "$spark"/python/lib/py4j-*-src.zip) ;;
  "$spark"/jars/spark-core_*.jar) ;;
  *) kept=${kept:+$kept:}$entry ;;
  esac
done
export PYTHONPATH="$kept"
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
    archive = spark_home / "python" / "lib" / "pyspark.zip"
    if os.name != "posix" or not archive.exists():
        return python
    text = _SCRIPT.replace("{spark}", shlex.quote(str(spark_home)))
    script = text.replace("{python}", shlex.quote(python)).encode()
    name = f"python-{hashlib.sha256(script).hexdigest()[:12]}"
    path = (folder or cache_folder() / "python") / name
    if not path.exists():
        write_atomically(path, script, mode=0o755)
    return str(path)
