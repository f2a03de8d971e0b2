"""The five components, looked at on a real server."""

from __future__ import annotations

import socket
import threading

import pytest

from harness.clock import SYSTEM_CLOCK, ManualClock
from harness.errors import CredentialError
from harness.lakebase.monitoring import checks
from harness.lakebase.monitoring.health import HealthMonitor
from harness.lakebase.monitoring.health_report import Finding, HealthCheck
from harness.postgres.connect import connect
from harness.postgres.probe import Probe
from harness.postgres.server import ConnectArguments

PATIENCE_S = 30


@pytest.fixture
def make_probe(postgres):
    probes = []

    def make(server=postgres, **options):
        probe = Probe(server, **options)
        probes.append(probe)
        return probe

    yield make
    for probe in probes:
        probe.close()


def finding_of(check):
    monitor = HealthMonitor([check])
    return monitor.check_now().components[0]


def test_database_is_healthy_and_says_its_version(make_probe, postgres):
    found = finding_of(checks.database_connection(make_probe()))

    assert found.status == "healthy"
    assert found.details["server_version"].startswith(postgres.info.version)


def test_checks_keep_one_connection(make_probe):
    """The original opened one for every check."""
    probe = make_probe()
    monitor = HealthMonitor(
        [checks.database_connection(probe), checks.database_performance(probe)]
    )
    for _ in range(5):
        assert monitor.check_now().status == "healthy"

    assert probe.opened_count == 1


def test_a_connection_that_died_between_two_checks_is_no_news(make_probe, postgres):
    probe = make_probe()
    check = checks.database_connection(probe)
    finding_of(check)
    (pid,), _ = probe.ask("SELECT pg_backend_pid()")
    with connect(postgres.connect_arguments()) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    assert finding_of(check).status == "healthy"
    assert probe.opened_count == 2


def test_every_connection_is_made_with_the_password_of_that_time(make_probe, postgres):
    """The original kept the one of its start: critical after an hour."""
    passwords = iter(["the first", "the second"])
    used = []

    class Rotating:
        info = postgres.info

        def connect_arguments(self):
            used.append(next(passwords))
            return postgres.connect_arguments()

        def close(self):
            pass

    probe = make_probe(Rotating())
    check = checks.database_connection(probe)
    finding_of(check)
    probe._drop()

    assert finding_of(check).status == "healthy"
    assert used == ["the first", "the second"]


def test_a_refused_login_is_critical_with_the_servers_reason(make_probe, postgres):
    class Elsewhere:
        info = postgres.info

        def connect_arguments(self):
            return ConnectArguments(
                {**postgres.connect_arguments(), "dbname": "no_such_database"}
            )

        def close(self):
            pass

    found = finding_of(checks.database_connection(make_probe(Elsewhere())))

    assert found.status == "critical"
    assert "no_such_database" in found.message


def test_a_statement_that_hangs_ends_in_time_and_frees_its_thread(make_probe, postgres):
    probe = make_probe()
    ended = threading.Event()
    probe.ask("SELECT 1")

    def find():
        try:
            probe.ask("SELECT pg_sleep(600)")
        finally:
            ended.set()

    # Once more after the first has been ended, it would hang again.
    probe_ask, probe.ask = probe.ask, probe._ask
    check = HealthCheck(
        component="part", find=find, timeout_s=0.2, abandon=probe.abandon
    )

    assert finding_of(check).status == "critical"
    assert ended.wait(PATIENCE_S)
    # The server does not hear of it before it answers, in ten minutes.
    with connect(postgres.connect_arguments()) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE query = 'SELECT pg_sleep(600)'"
        )
    probe._drop()
    probe.ask = probe_ask
    assert finding_of(checks.database_connection(probe)).status == "healthy"


def test_a_server_that_accepts_and_says_nothing_is_critical_in_time(
    make_probe, postgres
):
    with socket.create_server(("127.0.0.1", 0)) as black_hole:

        class Silent:
            info = postgres.info

            def connect_arguments(self):
                host, port = black_hole.getsockname()
                return ConnectArguments({"host": host, "port": port, "user": "u"})

            def close(self):
                pass

        check = checks.database_connection(
            make_probe(Silent(), connect_timeout_s=PATIENCE_S)
        )
        short = HealthCheck(
            component="part", find=check.find, timeout_s=0.2, abandon=check.abandon
        )
        started_ns = SYSTEM_CLOCK.monotonic_ns()
        found = finding_of(short)
        elapsed_s = (SYSTEM_CLOCK.monotonic_ns() - started_ns) / 1e9

    assert found.message == "did not answer within 0.2 s"
    assert elapsed_s < PATIENCE_S / 3


class SlowProbe:
    def __init__(self, elapsed_s, *, used=5):
        self.answer = (1000, 2, used, 100), elapsed_s

    def ask(self, _query):
        return self.answer

    def abandon(self):
        pass


@pytest.mark.parametrize(
    ("elapsed_s", "used", "status"),
    [
        (1.0, 90, "healthy"),
        (1.01, 5, "warning"),
        (5.0, 5, "warning"),
        (5.01, 5, "critical"),
        (0.1, 91, "warning"),
    ],
)
def test_database_performance_keeps_its_thresholds(elapsed_s, used, status):
    probe = SlowProbe(elapsed_s, used=used)

    assert finding_of(checks.database_performance(probe)).status == status


def test_database_performance_knows_size_and_activity(make_probe):
    details = finding_of(checks.database_performance(make_probe())).details

    assert details["database_size_bytes"] > 1_000_000
    assert details["active_connections"] >= 0
    assert 1 <= details["server_connections"] <= details["max_connections"]


@pytest.mark.parametrize(
    ("word", "status"),
    [
        # The original compared with "RUNNING", which is none of them.
        ("AVAILABLE", "healthy"),
        ("ACTIVE", "healthy"),
        ("IDLE", "healthy"),
        ("STARTING", "warning"),
        ("DEGRADED", "unhealthy"),
        ("FAILING_OVER", "unhealthy"),
        ("STOPPED", "critical"),
        ("A NEW WORD", "warning"),
    ],
)
def test_instance_is_judged_by_the_services_own_words(word, status):
    found = finding_of(checks.database_instance(lambda: word))

    assert found.status == status
    assert found.details == {"state": word}


def test_words_of_the_sdk_are_all_known():
    from databricks.sdk.service.database import DatabaseInstanceState
    from databricks.sdk.service.postgres import EndpointStatusState

    words = {s.value for s in (*DatabaseInstanceState, *EndpointStatusState)}

    assert words <= checks.STATES.keys()


def test_a_workspace_that_refuses_is_unhealthy_not_critical():
    """Open connections and the token at hand go on."""

    def refuse():
        raise CredentialError("cannot ask who we are: the workspace is unavailable")

    found = finding_of(checks.databricks_workspace(refuse))
    assert found.status == "unhealthy"
    assert "the workspace is unavailable" in found.message
    assert finding_of(checks.databricks_workspace(lambda: "me@x")).status == "healthy"


@pytest.mark.parametrize(
    ("stats", "status"),
    [
        # No idle connection, but seven more may be opened.
        ({"in_use": 3, "idle": 0, "size": 3}, "healthy"),
        ({"in_use": 9, "idle": 1, "size": 10}, "healthy"),
        ({"in_use": 10, "idle": 0, "size": 10, "waiting": 3}, "critical"),
        ({"in_use": 10, "idle": 0, "size": 10, "waiting": None}, "critical"),
    ],
)
def test_pool_is_judged_by_what_it_may_still_open(figures, stats, status):
    figures.now(**stats)

    assert finding_of(checks.connection_pool(figures)).status == status


def test_a_pool_nearly_full_is_a_warning(figures):
    figures.now(size_max=100, size=100, in_use=91, idle=9)

    assert finding_of(checks.connection_pool(figures)).status == "warning"


@pytest.mark.parametrize("field", ["connect_failures_count", "checkout_timeouts_count"])
def test_a_past_failure_is_a_warning_once_and_not_for_ever(figures, field):
    check = checks.connection_pool(figures)
    figures.count(**{field: 1})

    assert finding_of(check).status == "warning"
    assert finding_of(check).status == "healthy"


def test_a_check_of_ones_own_stands_beside_the_others():
    clock = ManualClock()
    monitor = HealthMonitor([checks.database_instance(lambda: "ACTIVE")], clock=clock)

    async def disk():
        return Finding(status="warning", message="nearly full")

    monitor.add_check(HealthCheck(component="disk", find=disk, timeout_s=PATIENCE_S))

    components = monitor.check_now().components
    assert [health.component for health in components] == ["database_instance", "disk"]


@pytest.mark.parametrize("answer", [None, "healthy"])
def test_a_check_that_answers_with_something_else_has_failed(answer):
    check = HealthCheck(component="own", find=lambda: answer, timeout_s=PATIENCE_S)

    found = finding_of(check)

    assert (found.status, found.message) == ("critical", "TypeError")


def test_a_status_that_is_none_is_a_failure_of_its_check():
    def find():
        return Finding(status="fine", message="")

    check = HealthCheck(component="own", find=find, timeout_s=PATIENCE_S)

    assert finding_of(check).message == "ValueError"
