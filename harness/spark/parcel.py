"""Sending a plan to executors: its own code travels along, what is installed does not.

A benchmark's module is a file on the driver; executors cannot import it. Its functions
and classes are therefore sent by value, and so are those that they use of other
modules that are not installed packages.
"""

from __future__ import annotations

import io
import sys
import sysconfig
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError, LoadError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.spark.load_place import Outcome

_OURS = "harness"


def packed(thing: object) -> bytes:
    """Return *thing* as bytes that an executor with our packages can unpack.

    Raises:
        ConfigError: If something in it cannot be sent.
    """
    by_value: set[str] = set()
    while True:
        with _by_value(by_value):
            try:
                found = _modules_used(thing) - by_value
                if not found:
                    return _dumps(thing)
            except Exception as error:  # noqa: BLE001  # pickle raises what objects do
                msg = (
                    "with --load-on=spark the operation and what it uses are sent to "
                    f"executors, and something in it cannot be: {error}. Open "
                    "connections in process_setup or setup, where they are used"
                )
                raise ConfigError(msg) from None
        # By value, they may show more of the user's own modules.
        by_value |= found


def unpacked(parcel: bytes) -> Any:
    """Return what was packed."""
    from pyspark import cloudpickle

    return cloudpickle.loads(parcel)


def packed_outcome(outcome: Outcome) -> bytes:
    """Return what a place brings back; errors that cannot be sent, by their words."""

    def sendable(error: BaseException) -> BaseException:
        try:
            copy: BaseException = unpacked(_dumps(error))
        except Exception:  # noqa: BLE001  # whatever an exception's constructor does
            return LoadError(f"{type(error).__name__}: {error}")
        return copy

    error, share = outcome.error, outcome.share
    if share is not None:
        examples = {name: sendable(each) for name, each in share.examples.items()}
        share = replace(share, examples=examples)
    if error is not None:
        error = sendable(error)
    return _dumps(replace(outcome, error=error, share=share))


def _dumps(thing: object) -> bytes:
    from pyspark import cloudpickle

    parcel: bytes = cloudpickle.dumps(thing)  # type: ignore[no-untyped-call] # pyspark's
    return parcel


def _modules_used(thing: object) -> set[str]:
    """Return the modules of the user's own code that pickling refers to."""
    from pyspark.cloudpickle import CloudPickler

    names: set[str] = set()

    class Finder(CloudPickler):
        def persistent_id(self, part: object) -> None:
            """Look at each part; None lets it be pickled as usual."""
            if isinstance(part, ModuleType):
                names.add(part.__name__)
            else:
                name = getattr(part, "__module__", None)
                names.update([name] if isinstance(name, str) else [])

    finder = Finder(io.BytesIO())  # type: ignore[no-untyped-call] # pyspark's
    finder.dump(thing)  # type: ignore[no-untyped-call] # pyspark's
    return {name for name in names if _is_users_own(name)}


def _is_users_own(name: str) -> bool:
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None or name == "__main__" or name.partition(".")[0] == _OURS:
        return False
    installed = [sysconfig.get_path(p) for p in ("stdlib", "purelib", "platlib")]
    return not any(Path(file).is_relative_to(folder) for folder in installed)


@contextmanager
def _by_value(names: set[str]) -> Iterator[None]:
    from pyspark.cloudpickle import register_pickle_by_value, unregister_pickle_by_value

    modules = [sys.modules[name] for name in sorted(names)]
    for module in modules:
        register_pickle_by_value(module)  # type: ignore[no-untyped-call] # pyspark's
    try:
        yield
    finally:
        for module in modules:
            unregister_pickle_by_value(module)  # type: ignore[no-untyped-call] # same
