"""Does the monitor stay small while it is watched for hours?

BENCHMARK_TEST_DURATION_SECONDS=7200 makes it the two hours; half a minute is the
default. What is seen each minute also goes to `soak.csv` in the test's folder
(`--basetemp`), line by line, for whoever wants to look meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import threading
from dataclasses import astuple, dataclass, fields

import pytest

from harness.clock import SYSTEM_CLOCK
from harness.load import constant_arrivals, run_open_loop
from harness.monitor.fixtures import live_of
from harness.monitor.run_watch import RunWatch
from harness.monitor.served import ServedMonitor
from harness.reports.live_file import LivePublisher

WATCHERS = 50
INTERVAL_S = 0.1
# Something to see, and little to do: what is looked at is the monitor.
RATE_PER_S = 20
LOOKS, LOOKS_MIN = 12, 3
LOOK_S_MAX = 60.0
MEMORY_MB_MAX = 150.0
# From the second third of a soak to the last. Of two hours, that is 24,000 updates to
# each of fifty: 2 MB more would be 80 bytes for each update, and 2 for each message.
GROWTH_MB_MAX = 2.0
# 6 s are 20 updates to each: a message kept for each of them is 1.2 MB.
GROWTH_MB_MAX_SMOKE = 0.6
HEAP_GROWTH_MB_MAX = 2.0
PAGE_TIMEOUT_MS = 60_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What was seen at one moment.

    Attributes:
        at_s: Seconds since the start.
        memory_mb: Of the server.
        cpu_s: Of the server since its start.
        heap_mb: JavaScript's, of the page, after it was swept; None without one.
        elements: Of the page.
    """

    at_s: float
    memory_mb: float
    cpu_s: float
    heap_mb: float | None = None
    elements: int | None = None


class Page:
    """The dashboard in a browser, driven by the thread that opened it."""

    def __init__(self, url: str, executable: str) -> None:
        from playwright.sync_api import sync_playwright

        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            driver = stack.enter_context(sync_playwright())
            browser = driver.chromium.launch(
                executable_path=executable,
                args=["--no-sandbox", "--no-proxy-server", "--disable-dev-shm-usage"],
            )
            stack.callback(browser.close)
            self._page = browser.new_page()
            self._page.goto(url)
            # It is live, and shows what this run does.
            self._page.wait_for_selector(
                'data[data-name="pool.in_use"]', timeout=PAGE_TIMEOUT_MS
            )
            self._inspector = self._page.context.new_cdp_session(self._page)
            self._stack = stack.pop_all()

    def seen(self) -> dict[str, float]:
        """Return its heap and its elements."""
        self._inspector.send("HeapProfiler.collectGarbage")
        heap = self._inspector.send("Runtime.getHeapUsage")["usedSize"] / 1e6
        elements = self._page.evaluate("document.querySelectorAll('*').length")
        return {"heap_mb": round(heap, 3), "elements": elements}

    def wait(self, seconds: float) -> None:
        """Wait; the driver hears of the page meanwhile."""
        self._page.wait_for_timeout(seconds * 1000)

    def close(self) -> None:
        """Close the browser."""
        self._stack.close()


class Watch(threading.Thread):
    """Looks at the server, and at a page where there is a browser, till told to end."""

    def __init__(self, monitor: ServedMonitor, *, every_s: float, path) -> None:
        super().__init__(name="soak-watch", daemon=True)
        self.looks: list[Look] = []
        self.failure: BaseException | None = None
        self.begun, self.ended = threading.Event(), threading.Event()
        self._monitor = monitor
        self._every_s = every_s
        self._path = path

    def run(self) -> None:
        """Look until `ended`."""
        executable = shutil.which("chromium") or shutil.which("google-chrome")
        page = None
        try:
            page = Page(self._monitor.url, executable) if executable else None
            with self._path.open("w") as lines:
                lines.write(",".join(field.name for field in fields(Look)) + "\n")
                self.begun.set()
                begun_ns = SYSTEM_CLOCK.monotonic_ns()
                # However busy the machine: a growth takes three looks.
                while not self.ended.is_set() or len(self.looks) < LOOKS_MIN:
                    if page is None:
                        self.ended.wait(self._every_s)
                    else:
                        page.wait(self._every_s)
                    look = Look(
                        at_s=round((SYSTEM_CLOCK.monotonic_ns() - begun_ns) / 1e9, 1),
                        memory_mb=round(self._monitor.memory_mb, 3),
                        cpu_s=round(self._monitor.cpu_s, 2),
                        **(page.seen() if page else {}),
                    )
                    self.looks.append(look)
                    values = ("" if v is None else str(v) for v in astuple(look))
                    lines.write(",".join(values) + "\n")
                    lines.flush()
        except BaseException as error:  # noqa: BLE001  # raised where the test waits
            self.failure = error
        finally:
            self.begun.set()
            if page is not None:
                page.close()

    def finish(self) -> list[Look]:
        """End; return what was seen, or raise what went wrong."""
        self.ended.set()
        self.join(PAGE_TIMEOUT_MS / 1000)
        if self.failure is not None:
            raise self.failure
        return self.looks


def growth(values: list[float]) -> float:
    """Return how much more the last third of them is than the second, by median."""
    third = len(values) // 3
    return statistics.median(values[-third:]) - statistics.median(
        values[third : 2 * third]
    )


@pytest.mark.benchmark(group="monitor-soak")
def test_monitor_is_no_larger_after_hours_of_updates(
    settings, tmp_path, request, make_pool, sized, record_load
):
    """Fifty sockets and one page watch a pool at work, ten updates a second."""
    duration_s = sized(full=settings.benchmark.test_duration_seconds, smoke=6.0)
    (tmp_path / "unfinished").mkdir()
    pool = make_pool(size_min=2, size_max=4)

    def select(_context):
        with pool.checkout() as connection:
            connection.execute("SELECT 1")

    watch = RunWatch()
    publisher = LivePublisher(
        tmp_path, pid=os.getpid(), collect=lambda: live_of(request.node, watch)
    )
    publisher.start()
    try:
        with ServedMonitor(tmp_path, interval_s=INTERVAL_S) as monitor:
            every_s = min(LOOK_S_MAX, duration_s / LOOKS)
            looking = Watch(monitor, every_s=every_s, path=tmp_path / "soak.csv")
            monitor.gather(WATCHERS)
            looking.start()
            looking.begun.wait()
            result = run_open_loop(
                select,
                constant_arrivals(rate_per_s=RATE_PER_S, duration_s=duration_s),
                workers=2,
            )
            looks = looking.finish()
            updates, stayed = monitor.disperse()
    finally:
        publisher.stop()

    memory = [look.memory_mb for look in looks]
    heap = [look.heap_mb for look in looks if look.heap_mb is not None]
    updates_expected = WATCHERS * looks[-1].at_s / INTERVAL_S
    details = {
        "watchers": WATCHERS,
        "updates_count": updates,
        "updates_of_due_ratio": round(updates / updates_expected, 3),
        "looks_count": len(looks),
        "memory_mb_first": memory[0],
        "memory_mb_max": max(memory),
        "memory_mb_growth": round(growth(memory), 3),
        "server_cpu_cores": round(looks[-1].cpu_s / looks[-1].at_s, 4),
        "page_watched": bool(heap),
    }
    if heap:
        details |= {
            "heap_mb_first": heap[0],
            "heap_mb_max": max(heap),
            "heap_mb_growth": round(growth(heap), 3),
        }
    record_load(result, details=details)
    assert result.failed == 0
    assert stayed == WATCHERS, "the server dropped some of those who watch"
    # It was at work, on a machine where others work too.
    assert updates > updates_expected / 4
    assert max(memory) < MEMORY_MB_MAX
    assert growth(memory) < sized(full=GROWTH_MB_MAX, smoke=GROWTH_MB_MAX_SMOKE)
    if heap:
        assert growth(heap) < HEAP_GROWTH_MB_MAX
        assert looks[-1].elements <= looks[len(looks) // 3].elements
