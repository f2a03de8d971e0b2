"""A whole process is killed with SIGKILL: JVM, Python and all. Another one goes on.

Other scenarios copy the files of a stopped JVM, which leaves what a kill leaves, many
times over. This one is the proof that they do: a real kill, a real new process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from pyspark import cloudpickle

from harness.clock import SYSTEM_CLOCK
from harness.spark.datasets import Orders
from harness.spark.feed import Feed
from harness.spark.lab import Place, Query
from harness.spark.merge import AddSink
from harness.spark.noise import UniformKeys
from harness.spark.proof import check_table, oracle

ORDERS = Feed(dataset=Orders(customers=UniformKeys(100)), seed=641, rows_count=20_000)
SUMS = "SELECT customer_id, sum(amount)::BIGINT AS amount FROM orders GROUP BY 1"
DEADLINE_S = 120.0

# What the other process does: the same query, in a JVM of its own.
VICTIM = """
import sys
from pathlib import Path
from pyspark import cloudpickle
from harness.spark.archive import archive_options
from harness.spark.jars import find_jars
from harness.spark.java import find_java
from harness.spark.lab import Lab, Place
from harness.spark.quick import BRIEF_JAVA_OPTIONS
from harness.spark.session import local_session

query = cloudpickle.loads(Path(sys.argv[1]).read_bytes())
java = find_java()
with local_session(
    java=java,
    jars=find_jars(java=java),
    master="local[2]",
    driver_memory="1g",
    quick=True,
    java_options=[*archive_options(java), *BRIEF_JAVA_OPTIONS],
) as running:
    print(running.jvm_pid, flush=True)
    place = Place(running.session, Path(sys.argv[2]))
    Lab(running.session, lambda: place.folder).run(query, place=place)
    print("done", flush=True)
"""


def amounts(_place, frame):
    return frame.select("customer_id", "amount")


def adding(place):
    return AddSink(target=place.table(), keys=("customer_id",), app_id="totals")


@pytest.mark.needs("kills")
def test_another_process_goes_on_after_kill_nine(lab, spark, tmp_path):
    """Sums are exact: nothing of the killed micro-batch is lost or counted twice."""
    query = Query(
        name="totals",
        feeds=(ORDERS,),
        transform=amounts,
        sink=adding,
        batches_count=5,
    )
    place = Place(spark, tmp_path / "place")
    place.folder.mkdir()
    place.create("customer_id BIGINT, amount BIGINT")
    parcel = tmp_path / "query"
    parcel.write_bytes(cloudpickle.dumps(query))

    victim = subprocess.Popen(  # noqa: S603 - this interpreter, no shell
        [sys.executable, "-c", VICTIM, str(parcel), str(place.folder)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert victim.stdout is not None
        jvm_pid = int(victim.stdout.readline())
        offsets = place.checkpoint("totals") / "offsets"
        wait_until((offsets / "1").exists, victim)
        os.kill(jvm_pid, signal.SIGKILL)
    finally:
        victim.kill()
        said, _ = victim.communicate()

    assert "done" not in said, "it was killed too late"
    done = [int(p.name) for p in offsets.with_name("commits").glob("[0-9]*")]
    assert max(done) < query.batches_count - 1
    run = lab.run(query, place=place)
    assert run.batches["totals"][0].batch_id >= max(done)
    check_table(place.path(), oracle(SUMS, orders=ORDERS.table()))


def wait_until(condition, process):
    end_ns = SYSTEM_CLOCK.monotonic_ns() + int(DEADLINE_S * 1e9)
    while not condition():
        assert process.poll() is None, "the other process ended by itself"
        assert SYSTEM_CLOCK.monotonic_ns() < end_ns, "it did not get that far"
        SYSTEM_CLOCK.sleep(0.002)
