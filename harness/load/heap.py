"""What was in memory before a run, kept out of the garbage collector's way."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def old_objects_set_aside() -> Iterator[None]:
    """Have the collector look only at what is made meanwhile.

    A pytest session holds hundreds of thousands of objects that live to its end. A
    full collection walks over all of them with every thread stopped: some 200 ms,
    which would stand in the response times as if the server had taken them. Setting
    them aside (`gc.freeze`) only relinks a list.

    Where something is set aside already, it is left to whoever did that.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
