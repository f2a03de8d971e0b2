"""A database that fails, as somebody sees it who has the dashboard open."""

from __future__ import annotations

from playwright.sync_api import expect

from harness.lakebase.standin.faults import Fault

PATIENCE_MS = 30_000


def test_page_shows_a_pool_that_lost_its_database_and_how_it_comes_back(
    under_fault, eventually, page, shown
):
    page.goto(f"http://{under_fault.server.base}/dashboard")
    health = shown("tile.health")
    expect(health).to_have_text("healthy", timeout=PATIENCE_MS)

    under_fault.proxy.set(Fault(reset=True, refuse=True))
    eventually(
        lambda: under_fault.health()["status"] == "critical", what="it is critical"
    )
    expect(health).to_have_text("critical", timeout=PATIENCE_MS)
    panel = page.locator('[data-panel="health"] .item')
    expect(panel.filter(has_text="database_connection")).to_contain_text("critical")
    pool = under_fault.service.pool.name
    expect(shown(f"pools.{pool}.failed to connect")).not_to_have_text(
        "0", timeout=PATIENCE_MS
    )
    expect(page.locator(".errors li").first).to_be_visible(timeout=PATIENCE_MS)

    under_fault.proxy.heal()
    eventually(under_fault.works, what="all is well again")
    expect(health).to_have_text("healthy", timeout=PATIENCE_MS)
    # What went wrong is still told.
    expect(page.locator(".errors li").first).to_be_visible()
