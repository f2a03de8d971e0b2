"""What does counting statements (pg_stat_statements) cost the server?"""

from __future__ import annotations

import statistics

import pytest

TRACK = {"on": "top", "off": "none"}
CLIENTS = 4


@pytest.mark.benchmark(group="postgres-statements-cost")
def test_point_read_with_statements_counted_or_not(
    postgres, pgbench, pgbench_tables, sized, record_durations
):
    """Through pgbench, on against off in turn, so that drift hits both.

    Off is `pg_stat_statements.track = none` of the session; the library stays loaded.
    """
    from harness.postgres.connect import connect
    from harness.postgres.pgbench import run_pgbench
    from harness.postgres.server import AttachedServer, ConnectArguments

    assert pgbench_tables.accounts
    with connect(postgres.connect_arguments()) as connection:
        loaded = connection.execute("SHOW shared_preload_libraries").fetchone()
    if pgbench is None or "pg_stat_statements" not in loaded[0]:
        pytest.skip("needs pgbench and a server that counts statements")

    def server(track):
        arguments = postgres.connect_arguments()
        option = f"-c pg_stat_statements.track={track}"
        arguments["options"] = f"{arguments.get('options') or ''} {option}".strip()
        return AttachedServer(arguments=ConnectArguments(arguments), info=postgres.info)

    per_s = {name: [] for name in TRACK}
    pairs = sized(full=9, smoke=2)
    for pair in range(pairs):
        for name in sorted(TRACK, reverse=pair % 2 == 1):
            result = run_pgbench(
                pgbench, server(TRACK[name]), clients=CLIENTS, duration_s=1
            )
            per_s[name].append(result.throughput_per_s)

    ratios = [on / off for on, off in zip(per_s["on"], per_s["off"], strict=True)]
    record_durations(
        [CLIENTS / value for value in per_s["on"]],
        measure="transaction_time",
        wall_s=float(pairs),
        completed=round(sum(per_s["on"])),
        details={
            "throughput_on_over_off": round(statistics.median(ratios), 3),
            "ratios": [round(ratio, 3) for ratio in ratios],
            "per_s_off": round(statistics.median(per_s["off"])),
            "per_s_on": round(statistics.median(per_s["on"])),
        },
    )
    # It is on by default because it costs little; half would not be little.
    assert statistics.median(ratios) > 0.5
