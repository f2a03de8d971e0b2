"""Reports of load, streams and hostile names, and a browser to look at their pages."""

from __future__ import annotations

import json
import shutil
import subprocess
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.reports.record import BLOCK
from harness.reports.summary import (
    case_block,
    exact_stats,
    measured_stats,
    measurement_of_durations,
)

if TYPE_CHECKING:
    from pathlib import Path

MACHINE_INFO = {
    "system": "Linux",
    "machine": "x86_64",
    "cpu_brand": "A processor",
    "cpu_count": 2,
    "python_implementation": "CPython",
    "python_minor": "3.11",
    "python_version": "3.11.7",
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def make_record(name, *, group="g", median_s=0.002, count=2000, seed=0, **about):
    """A record of an open loop; `about` replaces parts of its block."""
    rng = np.random.default_rng(seed)
    values_s = median_s * np.exp(rng.normal(0, 0.4, count))
    errors = about.pop("errors", {})
    rate_per_s = about.pop("rate_per_s", 1000)
    measurement = measurement_of_durations(
        values_s, measure="response_time", wall_s=count / rate_per_s, failed=errors
    )
    block = case_block(measurement, facts={"target": "embedded"})
    document = block.model_dump(mode="json", exclude_none=True)
    parts = {"start_delay": 0.1, "checkout_wait": 0.3, "service_time": 0.6}
    document |= {
        "kind": "open_loop",
        "workers": 8,
        "split_ms": {
            part: {
                key: float(np.quantile(values_s * share, q)) * 1e3
                for key, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
            }
            for part, share in parts.items()
        },
        "per_second": [900, 1000, 1100, 1000, 950, 1050],
    } | about
    return {
        "group": group,
        "name": name,
        "fullname": f"benchmarks/test_{group}.py::{name}",
        "params": None,
        "param": None,
        "extra_info": {BLOCK: document},
        "options": {},
        "stats": exact_stats(values_s) | measured_stats(measurement),
    }


@pytest.fixture
def write_report(tmp_path):
    """Return a function that saves records as a report, numbered in a folder."""

    def write(records, *, folder="Linux", failed=None):
        place = tmp_path / "reports" / folder
        place.mkdir(parents=True, exist_ok=True)
        number = len(list(place.glob("*.json"))) + 1
        day = len(list((tmp_path / "reports").glob("*/*.json"))) + 1
        document = {
            "machine_info": MACHINE_INFO,
            "commit_info": {"id": "0123456789abcdef", "dirty": False},
            "version": "5.3.1",
            "datetime": f"2026-01-{day:02d}T02:00:00+00:00",
            "benchmarks": records,
            BLOCK: {
                "schema_version": 2,
                "complete": True,
                "smoke": False,
                "failed": failed or {},
            },
        }
        path = place / f"{number:04d}_x.json"
        path.write_text(json.dumps(document))
        return path

    return write


class Dom(HTMLParser):
    """The elements of a page in order, and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.text = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def named(self, *tags):
        return [attrs for tag, attrs in self.elements if tag in tags]


@pytest.fixture
def dom():
    return Dom


@pytest.fixture
def record():
    return make_record


@pytest.fixture(scope="session")
def browse(tmp_path_factory):
    """Return a function that opens a page in headless Chromium: its DOM, its log."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    profile = tmp_path_factory.mktemp("chromium")

    def open_page(path: Path, *, width=1280):
        done = subprocess.run(
            [
                found,
                *("--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
                *("--disable-background-networking", "--enable-logging=stderr"),
                *("--no-first-run", "--disable-component-update"),
                f"--user-data-dir={profile}",
                f"--window-size={width},900",
                f"file://{path}",
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout, done.stderr

    return open_page
