"""A pool stays with the process that opened it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from harness.postgres import slots
from harness.postgres.slots import counts_references

# A process of its own: pytest's threads must not be forked.
SCRIPT = """
import json, os, sys, threading
from harness.errors import TargetError
from harness.lakebase.pools import open_pool
from harness.postgres.pool import PoolConfig
from harness.postgres.server import ConnectArguments, ServerInfo, attach

told = json.load(sys.stdin)
info = ServerInfo(
    target="dsn", reason="test", version="17", tls=None, max_connections=400
)
server = attach(ConnectArguments(told["arguments"]), info)
pool = open_pool(told["kind"], server, PoolConfig(size_min=2, size_max=2))
ask = "SELECT pg_backend_pid()"
with pool.checkout() as first, pool.checkout() as second:
    before = {c.execute(ask).fetchone()[0] for c in (first, second)}

held = threading.Event(), threading.Event()

def hold():
    with pool._lock:
        held[0].set()
        held[1].wait(60)

# The worst moment: a thread that the child will not have holds the pool's lock.
checkout = pool.checkout()
checkout.__enter__()
holder = threading.Thread(target=hold)
holder.start()
held[0].wait(60)
reads, writes = os.pipe()
child = os.fork()
if child == 0:
    said = "nothing"
    try:
        checkout.__exit__(None, None, None)
        with pool.checkout():
            pass
    except TargetError as error:
        said = str(error)
    pool.maintain()
    pool.metrics()
    pool.close()
    os.write(writes, said.encode())
    os._exit(0)
os.close(writes)
said = os.read(reads, 10_000).decode()
status = os.waitpid(child, 0)[1]
held[1].set()
holder.join()
checkout.__exit__(None, None, None)
with pool.checkout() as first, pool.checkout() as second:
    after = {c.execute(ask).fetchone()[0] for c in (first, second)}
pool.close()
print(json.dumps({
    "said": said, "status": status, "pid": os.getpid(), "same": before == after,
}))
"""


@pytest.mark.parametrize("kind", ["psycopg", "queue"])
def test_forked_child_is_told_to_open_its_own_and_leaves_the_parents_alone(
    postgres, kind
):
    """Both would read each other's answers from the same sockets."""
    told = {"arguments": dict(postgres.connect_arguments()), "kind": kind}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert f"was opened by process {found['pid']}" in found["said"]
    assert "open a pool in each process, after the fork" in found["said"]
    assert found["status"] == 0
    assert found["same"], "the parent's connections must outlive the child"


@pytest.mark.parametrize(
    ("implementation", "is_free_threaded", "counts"),
    [("cpython", False, True), ("cpython", True, False), ("pypy", False, False)],
)
def test_reference_counts_are_believed_only_where_they_are_exact(
    implementation, is_free_threaded, counts
):
    assert (
        counts_references(implementation, is_free_threaded=is_free_threaded) is counts
    )


def test_nothing_is_taken_back_where_references_are_not_counted(make, monkeypatch):
    """Better lost than taken from somebody who still has it."""
    monkeypatch.setattr(slots, "COUNTS_REFERENCES", False)
    pool = make(size_min=1, size_max=1)
    pool.checkout().__enter__()
    pool.maintain()
    assert pool.in_use == 1
    (slot,) = pool._slots.open
    slot.connection.close()

    monkeypatch.setattr(slots, "COUNTS_REFERENCES", True)
    other = make(size_min=1, size_max=1)
    other.checkout().__enter__()
    other.maintain()
    assert other.in_use == 0
