"""The parts of the dashboard as they are shipped."""

from __future__ import annotations

import hashlib
from pathlib import Path

import harness.monitor
from harness.monitor.app import STATIC_TYPES

VENDOR = Path(harness.monitor.__file__).parent / "static" / "vendor"


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
