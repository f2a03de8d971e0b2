from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from harness.clock import ManualClock
from harness.spark.meter import Meter, Seldom, Usage

# Uses CPU in a child that it waits for, and in one that lives on; then says so.
BUSY = """
import subprocess, sys, time
def use(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
code = "import time\\nwhile time.process_time() < 0.3: pass\\n"
subprocess.run([sys.executable, "-c", code], check=True)
child = subprocess.Popen(
    [sys.executable, "-c", code + "print('done', flush=True)\\ninput()"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
use(0.4)
print("used", flush=True)
sys.stdin.readline()
child.communicate(b"\\n")
"""


def test_cpu_of_children_counts_whether_they_live_or_ended():
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with Meter(process.pid) as meter:
            assert process.stdout.readline() == "used\n"
    finally:
        process.communicate("\n")

    usage = meter.usage
    # 0.3 + 0.3 + 0.4 seconds, and the starts of three interpreters.
    assert 0.95 < usage.cpu_s[-1] < 2.0
    assert list(usage.cpu_s) == sorted(usage.cpu_s)
    assert usage.jvm_rss_peak_bytes > 1_000_000
    assert usage.python_peak_bytes > 10_000_000


def test_cpu_between_two_moments_is_read_off_between_samples():
    usage = Usage((100.0, 110.0, 120.0), (5.0, 6.0, 16.0), 0, 0)

    def at(seconds):
        return datetime.fromtimestamp(seconds, UTC)

    assert usage.cpu_between_s(at(105), at(115)) == pytest.approx(5.5)
    assert usage.total_cpu_s == 11.0


def test_jvm_of_another_is_not_measured():
    with Meter(None) as meter:
        pass

    assert meter.usage is None


@pytest.mark.parametrize(("took_s", "wait_s"), [(0.001, 1.0), (0.02, 4.0)])
def test_what_costs_time_is_done_the_more_seldom_the_longer_it_takes(took_s, wait_s):
    """At most a two-hundredth of the time, and no more often than asked for."""
    clock = ManualClock()
    seldom = Seldom(1.0, clock)
    assert seldom.is_due()

    with seldom.doing():
        clock.advance(took_s)

    clock.advance(wait_s - 0.001)
    assert not seldom.is_due()
    clock.advance(0.001)
    assert seldom.is_due()
