"""How the live dashboard stays live, in a real browser."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fastapi import FastAPI
from playwright.sync_api import expect

from harness.monitor.app import make_app
from harness.monitor.live_api import Subject
from harness.reports.live import LiveData, LiveError, LiveErrors

PATIENCE_MS = 30_000
START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_page_reconnects_after_the_server_restarts(
    site, page, everything, pool, expect_value, figures_of
):
    figures = figures_of(everything(pool=pool(in_use=3)))
    site.start(make_app(subject=Subject(source=figures), interval_s=0.1))
    page.goto(site.url())
    expect_value("pool.in_use", "3")

    site.stop()
    expect(page.locator("#link")).to_have_class("link lost", timeout=PATIENCE_MS)
    expect(page.locator("#link")).to_contain_text("last seen")
    expect_value("pool.in_use", "3")
    figures.data = everything(pool=pool(in_use=7))
    site.start(make_app(subject=Subject(source=figures), interval_s=0.1))

    expect(page.locator("#link")).to_have_text("live", timeout=PATIENCE_MS)
    expect_value("pool.in_use", "7")
    # A browser says by itself what it could not reach.
    assert all("ERR_CONNECTION" in text for text in page.said), page.said
    page.said.clear()


def test_page_polls_where_no_websocket_gets_through(
    site, page, everything, pool, expect_value, figures_of
):
    figures = figures_of(everything(pool=pool(in_use=3)))
    site.start(make_app(subject=Subject(source=figures), interval_s=0.1))
    page.route_web_socket("**/ws/live-updates", lambda socket_: socket_.close())
    page.goto(site.url())
    expect(page.locator("#link")).to_contain_text("polling", timeout=PATIENCE_MS)
    expect_value("pool.in_use", "3")
    figures.data = everything(pool=pool(in_use=7))
    expect_value("pool.in_use", "7")


def test_page_works_where_it_is_mounted_in_an_application(
    site, page, everything, expect_value, figures_of
):
    application = FastAPI()
    figures = figures_of(everything())
    application.mount("/watch", make_app(subject=Subject(source=figures)))
    site.start(application)
    page.goto(site.url("/watch/dashboard"))

    expect(page.locator("#link")).to_have_text("live")
    expect_value("pool.in_use", "3")


def test_live_part_stands_above_the_newest_report_only(
    site, page, reports, everything, expect_value, figures_of
):
    reports.save(reports.record())
    figures = figures_of(everything())
    site.start(make_app(reports.folder, subject=Subject(source=figures)))
    page.goto(site.url())
    expect_value("pool.in_use", "3")
    expect(page.locator("main h1")).to_contain_text("Run 0001")

    page.goto(site.url("/dashboard?run=0001"))
    expect(page.locator("#link")).to_have_text("live")
    assert page.locator("#live").count() == 0


def test_what_is_no_longer_said_is_no_longer_shown_as_now(
    page, everything, pool, shown, expect_value, feed
):
    send = feed()
    send(1, everything(pool=pool(in_use=4)))
    expect_value("pool.in_use", "4")
    expect_value("tile.errors", "1234")

    send(2, LiveData(benchmark=everything().benchmark))
    expect(shown("pool.in_use")).to_have_text("\N{EN DASH}")
    for name in ("tile.in_use", "tile.errors", "agents.support-agent.in flight"):
        expect(shown(name)).to_be_hidden()
    expect(page.locator('[data-chart="pool"]')).to_be_visible()
    send(400, LiveData())
    expect(page.locator('[data-chart="pool"]')).to_be_hidden()


def test_heap_of_the_page_stays_flat_over_hours_of_updates(
    page, everything, pool, expect_value, feed
):
    """Updates of two hours, one a second, as fast as the page takes them."""
    send = feed()
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
        expect_value("tile.errors", str(last - 1))
        inspector.send("HeapProfiler.collectGarbage")
        nodes = page.evaluate("document.querySelectorAll('*').length")
        return inspector.send("Runtime.getHeapUsage")["usedSize"], nodes

    early_bytes, early_nodes = heap_after(1, 1200)
    late_bytes, late_nodes = heap_after(1200, 7200)

    assert late_nodes == early_nodes
    assert late_bytes < early_bytes * 1.2 + 200_000
