"""pgbench is found, run without showing a password, and read correctly."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import numpy as np
import pytest

from harness.clock import ManualClock
from harness.errors import ConfigError, TargetError
from harness.load import LogLinearHistogram, TraceArrivals, run_open_loop
from harness.load.interleaving import current_hub
from harness.postgres import pgbench as module
from harness.postgres.anchor import Anchor
from harness.postgres.connect import connect
from harness.postgres.embedded import start_embedded
from harness.postgres.pgbench import find_pgbench, run_pgbench
from harness.postgres.pgbench_tables import ACCOUNTS, HISTORY, seed_pgbench
from harness.postgres.server import AttachedServer, ConnectArguments

HOSTILE = "pa:ss\\wo rd'#=x"


@pytest.fixture(scope="module")
def server(make_settings):
    server = start_embedded(make_settings(), reason="for a test")
    with connect(server.connect_arguments()) as connection:
        seed_pgbench(connection, scale=1)
        literal = HOSTILE.replace("'", "''")
        connection.execute(f"CREATE ROLE guest LOGIN SUPERUSER PASSWORD '{literal}'")
    arguments = server.connect_arguments() | {"user": "guest", "password": HOSTILE}
    yield AttachedServer(arguments=ConnectArguments(arguments), info=server.info)
    server.close()


@pytest.fixture(scope="module")
def pgbench():
    found = find_pgbench()
    assert found is not None
    return found


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
def test_select_only_is_read(protocol, server, pgbench):
    result = run_pgbench(
        pgbench, server, clients=2, threads=4, duration_s=1, protocol=protocol
    )

    assert (result.clients, result.threads) == (2, 2)
    assert result.protocol == protocol
    assert result.transactions > 100
    assert result.failed == 0
    assert result.throughput_per_s == pytest.approx(result.transactions, rel=0.3)
    assert 0 < result.cpu_s < 2.5
    assert result.rate_per_s is None
    assert "start_delay_ms" not in result.details()


def test_tpcb_leaves_its_rows(server, pgbench):
    with connect(server.connect_arguments()) as connection:
        count = f"SELECT count(*) FROM {HISTORY}"
        before = connection.execute(count).fetchone()[0]
        result = run_pgbench(
            pgbench, server, clients=2, duration_s=1, workload="tpcb-like"
        )
        after = connection.execute(count).fetchone()[0]

    assert after - before == result.transactions > 0


def test_rate_gives_response_times_and_start_delays_from_its_log(server, pgbench):
    result = run_pgbench(pgbench, server, clients=4, duration_s=2, rate_per_s=200)

    assert 300 < result.transactions < 500
    assert 0 < result.start_delay_ms["p50"] < result.response_time_ms["p50"]
    assert result.details()["rate_per_s"] == 200


def test_means_of_its_log_are_those_it_prints(server, pgbench):
    """Read as pgbench means it: what it prints agrees within its last digit."""
    script = "SELECT pg_sleep(0.005);"
    result = run_pgbench(
        pgbench, server, clients=2, count=100, script=script, rate_per_s=200
    )

    log = result.log
    assert len(log.intended_ns) == result.transactions == 200
    assert log.response_time_ns.mean() / 1e6 == pytest.approx(
        result.latency_ms_mean, abs=0.0011
    )
    assert log.start_delay_ns.mean() / 1e6 == pytest.approx(
        result.start_delay_ms_mean, abs=0.0011
    )
    span_s = (log.intended_ns.max() - log.intended_ns.min()) / 1e9
    assert 0.5 < span_s < 2
    histogram = LogLinearHistogram.of(log.response_time_ns)
    # Of as few values the middle of two may lie far from both: no interpolation.
    exact_ns = np.quantile(log.response_time_ns, 0.5, method="inverted_cdf")
    assert histogram.quantile(0.5) == pytest.approx(exact_ns, rel=0.01)


def occupied_ns(log):
    """Return arrivals, and how long each kept its client busy, in order of arrival.

    From when it was due, or its client was free, until it ended: what pgbench itself
    was late is in it, so that nothing but the queue is left to be found.
    """
    ended_ns = log.intended_ns + log.response_time_ns
    free_ns = dict.fromkeys(log.client.tolist(), 0)
    order = np.argsort(log.intended_ns, kind="stable")
    times_ns = []
    for each in order.tolist():
        client = int(log.client[each])
        from_ns = max(int(log.intended_ns[each]), free_ns[client])
        free_ns[client] = int(ended_ns[each])
        times_ns.append(free_ns[client] - from_ns)
    return log.intended_ns[order], times_ns


def simulated(log, *, workers):
    """Run the arrivals of a log through the engine, on a manual clock."""
    intended_ns, times_ns = occupied_ns(log)
    clock, times = ManualClock(), iter(times_ns)
    return run_open_loop(
        lambda _: current_hub().clock.sleep(next(times) / 1e9),
        TraceArrivals(tuple((intended_ns - intended_ns[0]).tolist()), "pgbench"),
        workers=workers,
        interleaved=True,
        drain_s=60,
        clock=clock,
    )


def figures(times_ns):
    """Return mean, p50, p90 and p99."""
    return np.array([times_ns.mean(), *np.quantile(times_ns, [0.5, 0.9, 0.99])])


def test_the_same_arrivals_and_services_give_the_response_times_of_its_log(
    server, pgbench
):
    """Three connections, seven tenths busy: the queue is the same, within 1 %.

    Only what response time *means* is compared, so it holds on a busy machine. But
    pgbench reads the time of a line when it writes it: where it lost its processor
    just before, arrivals look later than they were. Such a log is made again.
    """
    for _ in range(5):
        log = run_pgbench(
            pgbench,
            server,
            clients=3,
            threads=1,  # one queue of arrivals for all, as the engine has
            duration_s=4,
            script="SELECT pg_sleep(0.02);",
            rate_per_s=105,
        ).log
        ours = simulated(log, workers=3)
        assert ours.completed == len(log.intended_ns) > 300
        theirs_ns = figures(log.response_time_ns)
        found_ns = figures(ours.samples.response_time_ns)
        # From the actual start, as a generator that forgets the queue has it.
        from_start_ns = ours.samples.finished_ns - ours.samples.started_ns
        assert from_start_ns.mean() < 0.95 * theirs_ns[0]
        if found_ns == pytest.approx(theirs_ns, rel=0.01):
            break
    assert found_ns == pytest.approx(theirs_ns, rel=0.01)


def test_script_is_run(server, pgbench):
    script = "\\set aid random(1, 100)\nSELECT pg_sleep(0.01), :aid;\n"

    result = run_pgbench(pgbench, server, clients=1, duration_s=1, script=script)

    assert 10 < result.transactions <= 100
    assert result.latency_ms_mean >= 10


def test_password_is_in_no_argument_and_no_variable(server, pgbench, monkeypatch):
    """Others on the machine can read both; the file is for its owner alone."""
    seen = {}
    real = subprocess.run

    def run(argv, *, env, **options):
        if "--version" not in argv:
            seen["told"] = f"{argv} {env}"
            seen["file"] = Path(env["PGPASSFILE"]).read_text()
            seen["modes"] = {
                stat.S_IMODE(Path(env[name]).stat().st_mode)
                for name in ("PGPASSFILE", "PGSERVICEFILE")
            }
            seen["folder"] = options["cwd"]
            seen["service"] = Path(env["PGSERVICEFILE"]).read_text()
        return real(argv, env=env, **options)

    monkeypatch.setattr(module.subprocess, "run", run)
    monkeypatch.setenv("LAKEBASE_PASSWORD", HOSTILE)
    run_pgbench(pgbench, server, clients=1, duration_s=1)

    assert HOSTILE not in seen["told"]
    assert "pa:ss" not in seen["told"]
    assert HOSTILE not in seen["service"]
    assert seen["file"] == "*:*:*:*:pa\\:ss\\\\wo rd'#=x\n"
    assert seen["modes"] == {0o600}
    assert not seen["folder"].exists()


def test_refusal_is_its_own_reason_without_the_password(server, pgbench):
    wrong = server.connect_arguments() | {"password": "canary-password"}
    stranger = AttachedServer(arguments=ConnectArguments(wrong), info=server.info)

    with pytest.raises(
        TargetError, match=r"pgbench failed: .*authentication"
    ) as caught:
        run_pgbench(pgbench, stranger, clients=1, duration_s=1)
    assert "canary" not in str(caught.value)

    with pytest.raises(TargetError, match='relation "nothing" does not exist'):
        run_pgbench(
            pgbench, server, clients=1, duration_s=1, script="SELECT * FROM nothing;"
        )


def test_count_is_of_each_client(server, pgbench):
    result = run_pgbench(pgbench, server, clients=3, count=7)

    assert result.transactions == 21
    with pytest.raises(ConfigError, match="either duration_s or count"):
        run_pgbench(pgbench, server, clients=1)


def test_scans_are_counted_when_it_returns(server, pgbench):
    """Else those of pgbench would be taken for those of the load after it."""
    scans = (
        f"SELECT idx_scan FROM pg_stat_user_tables WHERE relid = '{ACCOUNTS}'::regclass"
    )
    with connect(server.connect_arguments()) as connection:
        for _ in range(5):
            before = connection.execute(scans).fetchone()[0]
            run_pgbench(pgbench, server, clients=8, count=25)
            assert connection.execute(scans).fetchone()[0] - before == 200


def test_anchor_divides_by_the_mean_of_its_runs(server, pgbench):
    anchor = Anchor(
        pgbench=pgbench, server=server, workload="select-only", duration_s=None
    )
    anchor.run()
    anchor.run()
    both = [result.throughput_per_s for result in anchor.results]

    details = anchor.details(sum(both))

    assert details["client_stack_efficiency"] == pytest.approx(2, abs=0.01)
    assert details["pgbench"]["throughput_per_s"] == pytest.approx(both, abs=0.1)
    assert details["pgbench"]["workload"] == "select-only"


def test_anchor_at_a_rate_tells_its_schedule_lag(server, pgbench):
    anchor = Anchor(
        pgbench=pgbench,
        server=server,
        workload="select-only",
        duration_s=2,
        clients=4,
        rate_per_s=400,
    )
    anchor.run()

    details = anchor.details(400.0)

    assert details["pgbench"]["rate_per_s"] == 400
    assert 500 < details["pgbench"]["transactions"] < 1000
    assert details["pgbench_start_delay_ms_p50"] > 0
    assert (
        details["pgbench_start_delay_ms_p50"] <= details["pgbench_start_delay_ms_p99"]
    )
    assert "client_stack_efficiency" not in details


def test_anchor_that_cannot_run_says_why(server, pgbench):
    """The load it stands beside is still a result."""
    anchor = Anchor(pgbench=pgbench, server=server, workload="nonsense")
    anchor.run()
    assert "nonsense" in anchor.details(1.0)["pgbench"]

    missing = Anchor(pgbench=None, server=server, workload="select-only")
    missing.run()
    assert missing.details(1.0)["pgbench"].startswith("not installed")

    assert Anchor().details(1.0) == {}


def test_folder_of_the_setting_comes_first(tmp_path):
    program = tmp_path / "pgbench"
    program.write_text("#!/bin/sh\necho 'pgbench (PostgreSQL) 99.1'\n")
    program.chmod(0o755)

    assert find_pgbench(tmp_path).version == "99.1"


def test_pgbench_that_does_not_run_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "pgbench").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "pgbench").chmod(0o755)
    monkeypatch.setattr(module, "installed_binaries", lambda: iter(()))
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_pgbench(tmp_path) is None
