"""The dashboard in a real browser, Debian's Chromium, and figures to show."""

from __future__ import annotations

import shutil
import socket
import threading
from datetime import UTC, datetime, timedelta

import pytest
import uvicorn
from playwright.sync_api import expect, sync_playwright

from harness.clock import SYSTEM_CLOCK
from harness.monitor.app import make_app
from harness.monitor.live_api import Subject
from harness.reports.live import (
    LiveAgent,
    LiveBenchmark,
    LiveComponent,
    LiveData,
    LiveError,
    LiveErrors,
    LiveHealth,
    LiveLoad,
    LivePool,
    LiveStream,
    LiveTimes,
    LiveToken,
    MetricsUpdate,
)

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


PATIENCE_S = 30


PATIENCE_MS = PATIENCE_S * 1000


START = datetime(2026, 1, 1, 12, tzinfo=UTC)


HOSTILE = '<img src=x onerror="document.title=1">'


def times(p50_ms):
    return LiveTimes(count=100, p50_ms=p50_ms, p95_ms=p50_ms * 3, p99_ms=p50_ms * 8)


def pool_of(name="app-db", *, in_use=3, checkins=1000, waiting=2):
    return LivePool(
        name=name,
        in_use=in_use,
        idle=8 - in_use,
        waiting=waiting,
        size=8,
        size_kept=4,
        size_max=12,
        utilization_rate=in_use / 12 * 100,
        checkouts_total=checkins + in_use,
        checkins_total=checkins,
        checkout_timeouts_total=1,
        connection_errors_total=0,
        leaks_total=0,
        opened_total=9,
        closed_total=1,
        checkout_wait=times(0.04),
        usage_time=times(1.25),
        connect_time=times(11.0),
    )


def everything_of(**changed):
    """Figures of all parts at once."""
    component = LiveComponent(
        component="connection_pool",
        status="warning",
        message=f"pool is nearly full {HOSTILE}",
        response_time_ms=0.31,
        timestamp=START,
    )
    parts = {
        "health": LiveHealth(
            status="warning",
            overall_status="warning",
            timestamp=START,
            components={
                "connection_pool": component,
                "database": component.model_copy(
                    update={
                        "component": "database",
                        "status": "healthy",
                        "message": "SELECT 1 answered",
                    }
                ),
            },
        ),
        "pool": pool_of(),
        "pools": (pool_of(),),
        "errors": LiveErrors(
            total_errors=1234,
            error_counts_by_category={"timeout": 1200, "network": 34},
            recent_errors=(
                LiveError(
                    timestamp=START,
                    category="timeout",
                    severity="medium",
                    operation="read_order",
                    message=f"canceling statement {HOSTILE}",
                ),
            ),
        ),
        "token": LiveToken(
            age_s=600.0,
            next_refresh_at=datetime.now(UTC) + timedelta(minutes=30),
            expires_at=datetime.now(UTC) + timedelta(minutes=50),
            minted_total=4,
        ),
        "streams": (
            LiveStream(
                name="orders",
                batch_id=41,
                input_rows_per_s=5000.0,
                processed_rows_per_s=5200.0,
                batch_duration_ms=842.0,
                watermark_lag_s=12.5,
                backlog_rows=17000,
                state_rows=900,
            ),
        ),
        "agents": (
            LiveAgent(
                name="support-agent",
                requests_total=300,
                errors_total=2,
                in_flight=7,
                ttft=times(120.0),
                end_to_end=times(900.0),
            ),
        ),
        "benchmark": LiveBenchmark(
            started_at=START,
            state="running",
            case="benchmarks/test_pool_storm.py::test_storm[pool=08]",
            case_index=5,
            cases_total=20,
            cases_done=3,
            cases_failed=1,
        ),
        "load": LiveLoad(
            case="test_storm", throughput_per_s=1843.0, response_time=times(2.5)
        ),
    }
    return LiveData.model_validate(parts | changed)


class Figures:
    """A source whose figures a test sets."""

    def __init__(self, data):
        self.data = data

    def live(self):
        return self.data() if callable(self.data) else self.data


class Site:
    """The monitor on one port; it can go and come back."""

    def __init__(self):
        self.port = 0
        self._server = None

    def start(self, app):
        config = uvicorn.Config(
            app, log_level="warning", ws="websockets-sansio", lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}
        )
        self._thread.start()

    def stop(self):
        if self._server is not None:
            self._server.should_exit = self._server.force_exit = True
            self._thread.join(PATIENCE_S)
            self._listener.close()
            self._server = None

    def url(self, path="/dashboard"):
        return f"http://127.0.0.1:{self.port}{path}"


@pytest.fixture
def site():
    site = Site()
    yield site
    site.stop()


# No longer than a module: while its driver lives, this thread has a running event loop.
@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip(
            "Chromium is missing, so the dashboard is not seen by a browser: "
            "apt-get install chromium"
        )
    # Not proxied: the pages are this machine's. A container has no user namespace.
    arguments = ["--no-sandbox", "--no-proxy-server", "--disable-dev-shm-usage"]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page whose console must stay silent; a test may clear `page.said`."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    page.said = []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    yield page
    said = page.said
    page.close()
    assert said == [], "the browser's console"


@pytest.fixture
def pool():
    """Return what makes the figures of a pool."""
    return pool_of


@pytest.fixture
def everything():
    """Return what makes figures of all parts at once: `everything(part=changed)`."""
    return everything_of


@pytest.fixture
def figures_of():
    """Return what makes a source of figures, or of a function that returns them."""
    return Figures


@pytest.fixture
def shown(page):
    """Return what finds a value on the page: `shown("pool.in_use")`."""
    return lambda name: page.locator(f'data[data-name="{name}"]')


@pytest.fixture
def expect_value(shown):
    """Return what waits until a value on the page is another."""

    def expect_value(name, value):
        expect(shown(name)).to_have_js_property("value", value, timeout=PATIENCE_MS)

    return expect_value


@pytest.fixture
def feed(site, page):
    """Return what opens the page, and returns what sends it the update of a second."""

    def open_fed():
        sockets = []
        site.start(make_app(subject=Subject(source=Figures(LiveData()))))
        page.route_web_socket("**/ws/live-updates", lambda one: sockets.extend([one]))
        page.goto(site.url())
        deadline_ns = SYSTEM_CLOCK.monotonic_ns() + PATIENCE_S * 1_000_000_000
        while not sockets:
            assert SYSTEM_CLOCK.monotonic_ns() < deadline_ns, "the page never connected"
            page.wait_for_timeout(10)  # The driver hears of it meanwhile.
        (socket_,) = sockets

        def send(second, data):
            at = START + timedelta(seconds=second)
            socket_.send(MetricsUpdate(timestamp=at, data=data).model_dump_json())

        return send

    return open_fed
