"""How a run tells a monitor in another process what it does, and only if asked.

The monitor touches a file in the folder of unfinished reports as long as somebody
watches. The run looks at that file's time twice a second, which costs microseconds,
and writes its state beside its journal only while the file is fresh: a run that
nobody watches is not disturbed.
"""

from __future__ import annotations

import json
import logging
import threading
from typing import TYPE_CHECKING

from harness.clock import SYSTEM_CLOCK, Clock
from harness.reports.live import LIVE_VERSION, LiveData, MetricsUpdate
from harness.reports.printable import printable
from harness.reports.store import UNFINISHED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MARKER = "watched"
SUFFIX = ".live"
# A monitor that was killed leaves its marker behind.
FRESH_S = 5.0
IDLE_LOOK_S = 0.5
INTERVAL_S = 0.5
INTERVAL_MIN_S = 0.05
LIVE_BYTES_MAX = 1_000_000
JOIN_TIMEOUT_S = 2.0

logger = logging.getLogger(__name__)


class LivePublisher:
    """Writes a run's state beside its journal while somebody watches.

    Args:
        folder: The folder of reports.
        pid: Process id of the run.
        collect: Returns the state; called on a thread of its own.
        clock: Dates it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        pid: int,
        collect: Callable[[], LiveData],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.path = folder / UNFINISHED / f"{pid}{SUFFIX}"
        self._marker = folder / UNFINISHED / MARKER
        self._collect = collect
        self._clock = clock
        self._sequence = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look whether somebody watches.

        Raises:
            OSError: The folder cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(
            target=self._run, name="lakegauge-live", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End, and remove what was written."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(JOIN_TIMEOUT_S)
        self.path.unlink(missing_ok=True)

    def publish(self) -> float:
        """Write the state if somebody watches; return when to look again, in s."""
        interval_s = self._asked_interval_s()
        if interval_s is None:
            return IDLE_LOOK_S
        self._sequence += 1
        update = MetricsUpdate(
            sequence=self._sequence, timestamp=self._clock.now(), data=self._collect()
        )
        # A reader sees the old state or the new one, never half of it.
        half = self.path.with_suffix(f"{SUFFIX}-new")
        half.write_text(update.model_dump_json())
        half.replace(self.path)
        return interval_s

    def _run(self) -> None:
        wait_s = 0.0  # Whoever watches already sees the run as it begins.
        while not self._stop.wait(wait_s):
            try:
                wait_s = self.publish()
            except Exception:
                logger.exception("the live state could not be written")
                return

    def _asked_interval_s(self) -> float | None:
        """Return how often updates are wanted; None if nobody watches."""
        try:
            touched_s = self._marker.stat().st_mtime
            if abs(self._clock.now().timestamp() - touched_s) > FRESH_S:
                return None
            return max(INTERVAL_MIN_S, float(self._marker.read_text() or INTERVAL_S))
        except (OSError, ValueError):
            return None


class LiveReader:
    """The other end: says that somebody watches, and reads the newest state.

    Args:
        folder: The folder of reports; it need not exist yet.
        interval_s: How often updates are wanted, in seconds.
        clock: Decides what is fresh.
    """

    def __init__(
        self,
        folder: Path,
        *,
        interval_s: float = INTERVAL_S,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._folder = folder / UNFINISHED
        self._interval_s = interval_s
        self._clock = clock

    def read(self) -> MetricsUpdate | None:
        """Return the newest state of a run that goes on; None if there is none."""
        if not self._folder.is_dir():
            return None  # No run has begun; a folder of ours would only puzzle.
        try:
            (self._folder / MARKER).write_text(f"{self._interval_s:g}")
        except OSError:
            return None  # A folder we may only read: no run can be asked.
        paths = [path for path in self._folder.glob(f"*{SUFFIX}") if self._fresh(path)]
        found = [update for path in paths if (update := _read(path)) is not None]
        return max(found, key=lambda update: update.timestamp, default=None)

    def close(self) -> None:
        """Say that nobody watches any more."""
        try:
            (self._folder / MARKER).unlink(missing_ok=True)
        except OSError as error:
            logger.debug("the marker stays: %s", error.strerror)

    def _fresh(self, path: Path) -> bool:
        try:
            written_s = path.stat().st_mtime
        except OSError:
            return False
        return self._clock.now().timestamp() - written_s <= FRESH_S


def _read(path: Path) -> MetricsUpdate | None:
    """Read one state with distrust: whoever may write there is not known."""
    try:
        if not path.is_file() or path.stat().st_size > LIVE_BYTES_MAX:
            return None
        # Names in it are shown to people.
        said = printable(json.loads(path.read_bytes()))
        update = MetricsUpdate.model_validate(said)
    except (OSError, ValueError, RecursionError):
        return None
    return update if update.version <= LIVE_VERSION else None
