"""The process that Python workers are forked from, with what they import in it.

Spark starts it with the name of the worker's module. pyspark's own has nothing
imported, so that each worker spends a second on pandas and pyarrow, and holds a copy
of them; forked from this one, they share its pages.

A process with threads must not be forked, which is why pyspark imports late. The two
libraries that start threads when they are imported are told not to: see `ENVIRONMENT`.
Where one does all the same, pyspark's own daemon takes over.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import threading
from pathlib import Path

MODULE = "harness.spark.python_daemon"
# For the JVM, from which the daemons inherit it.
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
_OF_ALL = ("pyarrow", "harness.spark.feed_source", "harness.spark.datasets")
# Only this one computes; the others ask a source for its offsets and partitions.
_OF_TASKS = ("pandas",)


def main(worker_module: str) -> None:
    """Import what the workers of a module import, then fork them as Spark asks."""
    from pyspark.daemon import manager

    of_tasks = _OF_TASKS if worker_module == "pyspark.worker" else ()
    for name in (worker_module, *_OF_ALL, *of_tasks):
        importlib.import_module(name)
    if _threads_count() > 1:
        own = [sys.executable, "-m", "pyspark.daemon", worker_module]
        os.execv(sys.executable, own)  # noqa: S606 - ourselves
    # Else the first collection in a worker would write to every page it shares.
    gc.freeze()
    manager()


def _threads_count() -> int:
    """Return how many threads there are, those of C libraries included."""
    tasks = Path("/proc/self/task")
    if tasks.is_dir():
        return sum(1 for _ in tasks.iterdir())
    return threading.active_count()


if __name__ == "__main__":
    main(sys.argv[1])
