"""YCSB's workloads do their shares on a real table, and cheats are caught."""

from __future__ import annotations

import pickle

import pytest

from harness.errors import ConfigError, WorkNotDoneError
from harness.load import run_closed_loop
from harness.postgres.connect import connect
from harness.postgres.embedded import start_embedded
from harness.postgres.keys import Uniform
from harness.postgres.pool import PoolConfig
from harness.postgres.usertable import USERTABLE, seed_usertable
from harness.postgres.workloads import Held, Mix, Pooled, Witness, Ycsb

RECORDS = 500
SHARES = {
    "A": {"reads": 0.5, "writes": 0.5},
    "B": {"reads": 0.95, "writes": 0.05},
    "C": {"reads": 1.0},
    "D": {"reads": 0.95, "inserts": 0.05},
    "E": {"scans": 0.95, "inserts": 0.05},
    "F": {"reads": 1.0, "writes": 0.5},
}


@pytest.fixture(scope="module")
def server(make_settings):
    server = start_embedded(make_settings(), reason="for a test")
    yield server
    server.close()


@pytest.fixture
def table(server):
    with connect(server.connect_arguments()) as connection:
        return seed_usertable(connection, records=RECORDS, field_length=20)


def run(workload, *, count=400, workers=4):
    result = run_closed_loop(
        workload,
        workers=workers,
        count=count,
        setup=workload.setup,
        teardown=workload.teardown,
    )
    workload.process_teardown()
    return result


@pytest.mark.parametrize("direct", [False, True], ids=["cursor", "direct"])
@pytest.mark.parametrize("mix", SHARES)
def test_mix_does_its_shares_and_is_confirmed(mix, direct, server, table):
    workload = Ycsb(Held(server=server), table, mix, direct=direct)
    witness = Witness(workload)
    sent = pickle.loads(pickle.dumps(workload))

    result = run(sent)

    assert (result.completed, result.examples) == (400, {})
    tally = witness.confirm(result)
    for name in ("reads", "writes", "inserts", "scans"):
        expected = SHARES[mix].get(name, 0) * 400
        assert abs(getattr(tally, name) - expected) <= 40, name


def test_table_is_ycsbs(server, table):
    with connect(server.connect_arguments()) as connection:
        row = connection.execute(
            f"SELECT * FROM {USERTABLE} ORDER BY 1 DESC LIMIT 1"
        ).fetchone()
    assert row[0] == f"user{RECORDS - 1:012d}"
    assert [len(field) for field in row[1:11]] == [20] * 10
    assert len(set(row[1:11])) == 10
    assert table.records == RECORDS


def test_writers_of_one_record_lose_no_update(server, table):
    """All workers read, modify and write the same record at once."""
    workload = Ycsb(Held(server=server), table, Mix(modify=1.0), keys=Uniform(count=1))
    witness = Witness(workload)

    result = run(workload, count=200)

    assert witness.confirm(result).writes == 200


def test_latest_reads_what_was_inserted(server, table):
    workload = Ycsb(Held(server=server), table, Mix(read=0.5, insert=0.5, latest=True))
    asked = []
    plain = workload.read
    workload.read = lambda session, number: (
        asked.append(number),
        plain(session, number),
    )

    result = run(workload, workers=2)

    assert result.errors == {}
    assert sum(number >= RECORDS for number in asked) > len(asked) / 3


class UnlockedYcsb(Ycsb):
    """Reads before its transaction, as a careless application does."""

    def modify(self, session, worker):
        key, field, text = self._change(worker)
        execute = session.execute
        row = execute(f"SELECT revision FROM {USERTABLE} WHERE ycsb_key = %s", (key,))
        revision = row.fetchone()[0]
        execute("SELECT pg_sleep(0.002)")
        execute(
            f"UPDATE {USERTABLE} SET field{field} = %s, revision = %s "
            "WHERE ycsb_key = %s",
            (text, revision + 1, key),
        )
        worker.tally.reads += 1
        worker.tally.writes += 1


class RolledBackYcsb(Ycsb):
    """Nothing stays."""

    def operate(self, session, worker):
        with session.transaction(force_rollback=True):
            super().operate(session, worker)


class CachedYcsb(Ycsb):
    """Answers from memory."""

    def read(self, session, number):
        pass


@pytest.mark.parametrize(
    ("workload_class", "mix", "complaint"),
    [
        (UnlockedYcsb, Mix(modify=1.0), r"updates committed to usertable: \d+, exp"),
        (RolledBackYcsb, Mix(update=1.0), "updates committed to usertable: 0, exp"),
        (RolledBackYcsb, Mix(insert=1.0), "records inserted into usertable: 0, exp"),
        (CachedYcsb, "C", "scans of usertable counted by the server: 0, expected 100"),
    ],
)
def test_work_that_was_not_done_is_caught(
    workload_class, mix, complaint, server, table
):
    keys = Uniform(count=1) if workload_class is UnlockedYcsb else None
    workload = workload_class(Held(server=server), table, mix, keys=keys)
    witness = Witness(workload)

    result = run(workload, count=100)

    assert result.failed == 0, "the load itself saw nothing wrong"
    with pytest.raises(WorkNotDoneError, match=complaint):
        witness.confirm(result)


@pytest.mark.parametrize("mix", ["C", "E"])
def test_missing_record_is_a_failed_operation(mix, server, table):
    with connect(server.connect_arguments()) as connection:
        connection.execute(f"DELETE FROM {USERTABLE} WHERE ycsb_key LIKE '%7'")
    workload = Ycsb(Pooled(server=server, config=PoolConfig()), table, mix)
    witness = Witness(workload)

    result = run(workload)

    assert set(result.errors) == {"WorkNotDoneError"}
    witness.confirm(result)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Mix(read=0.5), "add up to 1, got"),
        (lambda: Mix(read=1.5, update=-0.5), "0 or more"),
    ],
)
def test_impossible_mix_is_refused(make, complaint):
    with pytest.raises(ConfigError, match=complaint):
        make()


def test_impossible_workload_is_refused(server, table):
    source = Held(server=server)
    with pytest.raises(ConfigError, match=r"mix must be one of A, B, .*, got 'G'"):
        Ycsb(source, table, "G")
    with pytest.raises(ConfigError, match=r"keys.count must be <= 500, got 501"):
        Ycsb(source, table, "A", keys=Uniform(count=501))


def test_somebody_elses_table_is_left_alone(server, table):
    with connect(server.connect_arguments()) as connection:
        connection.execute(f"COMMENT ON TABLE {USERTABLE} IS 'mine'")
        with pytest.raises(ConfigError, match="usertable exists and was not made"):
            seed_usertable(connection, records=table.records)
        with pytest.raises(ConfigError, match="sizes must be >= 1"):
            seed_usertable(connection, records=0)
        connection.execute(f"DROP TABLE {USERTABLE}")
