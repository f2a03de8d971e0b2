"""The live dashboard in a real browser: Debian's Chromium, headless."""

from __future__ import annotations

import hashlib
import re
import shutil
import socket
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import expect, sync_playwright

import harness.monitor
from harness.clock import SYSTEM_CLOCK
from harness.monitor.app import STATIC_TYPES, make_app
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
VENDOR = Path(harness.monitor.__file__).parent / "static" / "vendor"
PATIENCE_S = 30
PATIENCE_MS = PATIENCE_S * 1000
START = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOSTILE = '<img src=x onerror="document.title=1">'

in_browser = pytest.mark.skipif(
    CHROMIUM is None,
    reason="Chromium is missing, so the dashboard is not seen by a browser: "
    "apt-get install chromium",
)


def times(p50_ms):
    return LiveTimes(count=100, p50_ms=p50_ms, p95_ms=p50_ms * 3, p99_ms=p50_ms * 8)


def pool(name="app-db", *, in_use=3, checkins=1000, waiting=2):
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


def everything(**changed):
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
        "pool": pool(),
        "pools": (pool(),),
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


@pytest.fixture(scope="module")
def browser():
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


def shown(page, name):
    return page.locator(f'data[data-name="{name}"]')


def expect_value(page, name, value):
    expect(shown(page, name)).to_have_js_property("value", value, timeout=PATIENCE_MS)


def feed(site, page):
    """Open the page; return what sends it the update of one second."""
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


@in_browser
def test_values_on_the_page_are_those_of_the_api(site, page):
    site.start(make_app(subject=Subject(source=Figures(everything())), interval_s=0.1))
    page.goto(site.url())
    expect(page.locator("#link")).to_have_text("live")
    data = page.request.get(site.url("/live")).json()["data"]
    stream, agent = data["streams"][0], data["agents"][0]

    for name, value, text in (
        ("pool.in_use", data["pool"]["in_use"], "3"),
        ("pool.idle", data["pool"]["idle"], "5"),
        ("pool.waiting", data["pool"]["waiting"], "2"),
        ("pool.cap", data["pool"]["size_max"], "12"),
        ("times.p50", data["load"]["response_time"]["p50_ms"], "2.50 ms"),
        ("times.p99", data["load"]["response_time"]["p99_ms"], "20.0 ms"),
        ("throughput.done", data["load"]["throughput_per_s"], "1,843 /s"),
        ("tile.errors", data["errors"]["total_errors"], "1,234"),
        ("errors.timeout.errors", 1200, "1,200"),
        ("health.database.to answer", 0.31, "310 µs"),
        ("token.credential.age", data["token"]["age_s"], "10.0 min"),
        ("streams.orders.processed", stream["processed_rows_per_s"], "5,200 /s"),
        ("streams.orders.batch duration", stream["batch_duration_ms"], "842 ms"),
        ("streams.orders.watermark lag", stream["watermark_lag_s"], "12.5 s"),
        ("streams.orders.backlog rows", stream["backlog_rows"], "17,000"),
        ("agents.support-agent.in flight", agent["in_flight"], "7"),
        ("agents.support-agent.TTFT p99", agent["ttft"]["p99_ms"], "960 ms"),
    ):
        expect_value(page, name, f"{value:g}")
        expect(shown(page, name)).to_have_text(text)
    expect(page.locator("#live h1")).to_have_text(data["benchmark"]["case"])
    expect(page.locator("#live .progress")).to_have_text(
        "running: case 5 of 20, 3 done, 1 failed"
    )
    expect(shown(page, "token.credential.next refresh")).to_contain_text("in 30")
    expect(page.locator(".plot canvas")).to_have_count(4)


@in_browser
def test_throughput_is_the_growth_of_connections_given_back(site, page):
    begun_s = SYSTEM_CLOCK.monotonic_ns() / 1e9

    def data():
        now_s = SYSTEM_CLOCK.monotonic_ns() / 1e9
        now = pool(checkins=int(500 * (now_s - begun_s)))
        return LiveData(pool=now, pools=(now,))

    site.start(make_app(subject=Subject(source=Figures(data)), interval_s=0.1))
    page.goto(site.url())
    page.wait_for_function(
        """() => {
            const shown = document.querySelector('data[data-name="tile.rate"]');
            return shown && Math.abs(Number(shown.value) - 500) < 50;
        }"""
    )


@in_browser
def test_names_and_messages_are_text_and_never_markup(site, page):
    site.start(make_app(subject=Subject(source=Figures(everything()))))
    page.goto(site.url())

    expect(page.locator(".errors li")).to_contain_text(HOSTILE)
    expect(page.locator('[data-panel="health"]')).to_contain_text(HOSTILE)
    assert page.locator("#live img").count() == 0
    assert page.title() == "lakegauge"


@in_browser
def test_page_reconnects_after_the_server_restarts(site, page):
    figures = Figures(everything(pool=pool(in_use=3)))
    site.start(make_app(subject=Subject(source=figures), interval_s=0.1))
    page.goto(site.url())
    expect_value(page, "pool.in_use", "3")

    site.stop()
    expect(page.locator("#link")).to_have_class("link lost", timeout=PATIENCE_MS)
    expect(page.locator("#link")).to_contain_text("last seen")
    expect_value(page, "pool.in_use", "3")
    figures.data = everything(pool=pool(in_use=7))
    site.start(make_app(subject=Subject(source=figures), interval_s=0.1))

    expect(page.locator("#link")).to_have_text("live", timeout=PATIENCE_MS)
    expect_value(page, "pool.in_use", "7")
    # A browser says by itself what it could not reach.
    assert all("ERR_CONNECTION" in text for text in page.said), page.said
    page.said.clear()


@in_browser
def test_page_polls_where_no_websocket_gets_through(site, page):
    figures = Figures(everything(pool=pool(in_use=3)))
    site.start(make_app(subject=Subject(source=figures), interval_s=0.1))
    page.route_web_socket("**/ws/live-updates", lambda socket_: socket_.close())
    page.goto(site.url())
    expect(page.locator("#link")).to_contain_text("polling", timeout=PATIENCE_MS)
    expect_value(page, "pool.in_use", "3")
    figures.data = everything(pool=pool(in_use=7))
    expect_value(page, "pool.in_use", "7")


@in_browser
def test_page_works_where_it_is_mounted_in_an_application(site, page):
    application = FastAPI()
    figures = Figures(everything())
    application.mount("/watch", make_app(subject=Subject(source=figures)))
    site.start(application)
    page.goto(site.url("/watch/dashboard"))

    expect(page.locator("#link")).to_have_text("live")
    expect_value(page, "pool.in_use", "3")


@in_browser
def test_live_part_stands_above_the_newest_report_only(site, page, reports):
    reports.save(reports.record())
    figures = Figures(everything())
    site.start(make_app(reports.folder, subject=Subject(source=figures)))
    page.goto(site.url())
    expect_value(page, "pool.in_use", "3")
    expect(page.locator("main h1")).to_contain_text("Run 0001")

    page.goto(site.url("/dashboard?run=0001"))
    expect(page.locator("#link")).to_have_text("live")
    assert page.locator("#live").count() == 0


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(site, page, scheme):
    site.start(make_app(subject=Subject(source=Figures(everything()))))
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 400, "height": 800})
    page.goto(site.url())
    expect_value(page, "pool.in_use", "3")

    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    widths = page.evaluate(
        "[...document.querySelectorAll('.plot canvas')]"
        ".map((canvas) => canvas.getBoundingClientRect().right)"
    )
    assert len(widths) == 4
    assert max(widths) <= 400


@in_browser
def test_what_is_no_longer_said_is_no_longer_shown_as_now(site, page):
    send = feed(site, page)
    send(1, everything(pool=pool(in_use=4)))
    expect_value(page, "pool.in_use", "4")
    expect_value(page, "tile.errors", "1234")

    send(2, LiveData(benchmark=everything().benchmark))
    expect(shown(page, "pool.in_use")).to_have_text("\N{EN DASH}")
    for name in ("tile.in_use", "tile.errors", "agents.support-agent.in flight"):
        expect(shown(page, name)).to_be_hidden()
    expect(page.locator('[data-chart="pool"]')).to_be_visible()
    send(400, LiveData())
    expect(page.locator('[data-chart="pool"]')).to_be_hidden()


@in_browser
def test_keys_move_along_a_chart(site, page):
    send = feed(site, page)
    for second in range(1, 6):
        send(second, everything(pool=pool(in_use=second)))
    expect_value(page, "pool.in_use", "5")
    plot = page.locator('[data-chart="pool"] .plot')
    plot.focus()

    page.keyboard.press("Home")
    expect_value(page, "pool.in_use", "1")
    page.keyboard.press("ArrowRight")
    expect_value(page, "pool.in_use", "2")
    page.keyboard.press("Escape")
    expect_value(page, "pool.in_use", "5")
    expect(plot).to_have_attribute("aria-label", re.compile("^Pool: in use 5, idle 3"))


@in_browser
def test_heap_of_the_page_stays_flat_over_hours_of_updates(site, page):
    """Updates of two hours, one a second, as fast as the page takes them."""
    send = feed(site, page)
    inspector = page.context.new_cdp_session(page)

    def heap_after(first, last):
        for second in range(first, last):
            data = everything(
                pool=pool(in_use=second % 12, checkins=second * 100),
                errors=LiveErrors(
                    total_errors=second,
                    error_counts_by_category={"timeout": second},
                    recent_errors=tuple(
                        LiveError(
                            timestamp=START + timedelta(seconds=second + index),
                            category="timeout",
                            message=f"{second}.{index}",
                        )
                        for index in range(10)
                    ),
                ),
            )
            send(second, data)
        expect_value(page, "tile.errors", str(last - 1))
        inspector.send("HeapProfiler.collectGarbage")
        nodes = page.evaluate("document.querySelectorAll('*').length")
        return inspector.send("Runtime.getHeapUsage")["usedSize"], nodes

    early_bytes, early_nodes = heap_after(1, 1200)
    late_bytes, late_nodes = heap_after(1200, 7200)

    assert late_nodes == early_nodes
    assert late_bytes < early_bytes * 1.2 + 200_000


def test_charts_are_those_that_were_reviewed():
    sums = dict(
        reversed(line.split(maxsplit=1))
        for line in (VENDOR / "SHA256SUMS").read_text().splitlines()
    )

    assert set(sums) == {"uplot.js", "uplot.css", "uplot-license.txt"}
    for name, expected in sums.items():
        found = hashlib.sha256((VENDOR / name).read_bytes()).hexdigest()
        assert found == expected, f"{name} changed: run vendor/build"
    assert "MIT" in (VENDOR / "uplot-license.txt").read_text()


def test_scripts_write_text_and_no_markup():
    static = VENDOR.parent
    own = [name for name in STATIC_TYPES if name.startswith("live")]
    scripts = [static / name for name in own if name.endswith(".js")]
    assert len(scripts) >= 5
    for script in scripts:
        for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"):
            assert sink not in script.read_text(), script.name
