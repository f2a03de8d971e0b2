"""What the live dashboard shows, in a real browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from harness.clock import SYSTEM_CLOCK
from harness.monitor.app import make_app
from harness.monitor.live_api import Subject
from harness.reports.live import LiveData

HOSTILE = '<img src=x onerror="document.title=1">'


def test_values_on_the_page_are_those_of_the_api(
    site, page, everything, shown, expect_value, figures_of
):
    site.start(
        make_app(subject=Subject(source=figures_of(everything())), interval_s=0.1)
    )
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
        expect_value(name, f"{value:g}")
        expect(shown(name)).to_have_text(text)
    expect(page.locator("#live h1")).to_have_text(data["benchmark"]["case"])
    expect(page.locator("#live .progress")).to_have_text(
        "running: case 5 of 20, 3 done, 1 failed"
    )
    expect(shown("token.credential.next refresh")).to_have_text(
        re.compile(r"in (30|29)\.\d min")  # however slow the machine
    )
    expect(page.locator(".plot canvas")).to_have_count(4)


def test_throughput_is_the_growth_of_connections_given_back(
    site, page, pool, figures_of
):
    begun_s = SYSTEM_CLOCK.monotonic_ns() / 1e9

    def data():
        now_s = SYSTEM_CLOCK.monotonic_ns() / 1e9
        now = pool(checkins=int(500 * (now_s - begun_s)))
        return LiveData(pool=now, pools=(now,))

    site.start(make_app(subject=Subject(source=figures_of(data)), interval_s=0.1))
    page.goto(site.url())
    page.wait_for_function(
        """() => {
            const shown = document.querySelector('data[data-name="tile.rate"]');
            return shown && Math.abs(Number(shown.value) - 500) < 50;
        }"""
    )


def test_names_and_messages_are_text_and_never_markup(
    site, page, everything, figures_of
):
    site.start(make_app(subject=Subject(source=figures_of(everything()))))
    page.goto(site.url())

    expect(page.locator(".errors li")).to_contain_text(HOSTILE)
    expect(page.locator('[data-panel="health"]')).to_contain_text(HOSTILE)
    assert page.locator("#live img").count() == 0
    assert page.title() == "lakegauge"


@pytest.mark.parametrize("width", [400, 640, 1280])
def test_no_figure_is_wider_than_its_tile(
    site, page, width, everything, expect_value, figures_of
):
    data = everything()
    health = data.health.model_copy(update={"status": "unhealthy"})
    load = data.load.model_copy(update={"workers": 64, "in_flight": 12})
    figures = figures_of(everything(health=health, load=load))
    site.start(make_app(subject=Subject(source=figures)))
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(site.url())
    expect_value("tile.health", "unhealthy")
    expect_value("tile.callers", "12")

    too_wide = page.evaluate(
        "[...document.querySelectorAll('#live .tiles dd')]"
        ".filter((each) => each.scrollWidth > each.clientWidth)"
        ".map((each) => each.textContent)"
    )
    assert too_wide == []


@pytest.mark.parametrize("width", [400, 1280])
def test_panels_leave_no_hole(site, page, width, everything, expect_value, figures_of):
    site.start(make_app(subject=Subject(source=figures_of(everything(token=None)))))
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(site.url())
    expect_value("pool.in_use", "3")

    ends = page.evaluate(
        "[...document.querySelectorAll('.panel:not([hidden])')]"
        ".map((each) => each.getBoundingClientRect().right)"
    )
    assert len(ends) == 5
    assert ends[-1] == pytest.approx(max(ends))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(
    site, page, scheme, everything, expect_value, figures_of
):
    site.start(make_app(subject=Subject(source=figures_of(everything()))))
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 400, "height": 800})
    page.goto(site.url())
    expect_value("pool.in_use", "3")

    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    widths = page.evaluate(
        "[...document.querySelectorAll('.plot canvas')]"
        ".map((canvas) => canvas.getBoundingClientRect().right)"
    )
    assert len(widths) == 4
    assert max(widths) <= 400


def test_keys_move_along_a_chart(page, everything, pool, expect_value, feed):
    send = feed()
    for second in range(1, 6):
        send(second, everything(pool=pool(in_use=second)))
    expect_value("pool.in_use", "5")
    plot = page.locator('[data-chart="pool"] .plot')
    plot.focus()

    page.keyboard.press("Home")
    expect_value("pool.in_use", "1")
    page.keyboard.press("ArrowRight")
    expect_value("pool.in_use", "2")
    page.keyboard.press("Escape")
    expect_value("pool.in_use", "5")
    expect(plot).to_have_attribute("aria-label", re.compile("^Pool: in use 5, idle 3"))
