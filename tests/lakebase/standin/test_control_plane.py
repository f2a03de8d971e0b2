"""What the real databricks-sdk gets from the stand-in's control plane."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from databricks.sdk import errors
from databricks.sdk.service.database import DatabaseInstance
from databricks.sdk.service.postgres import (
    Branch,
    Endpoint,
    EndpointSpec,
    EndpointStatusState,
    Project,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from harness.clock import SYSTEM_CLOCK
from harness.errors import ConfigError, TargetError
from harness.lakebase.computes import max_connections_of
from harness.lakebase.standin.journal import Journal
from harness.lakebase.standin.plan import StandinPlan
from harness.lakebase.standin.standin import LakebaseStandin


def test_identity_is_the_owner_of_the_token(shared_standin, client_of):
    me = client_of(shared_standin).current_user.me()

    assert me.user_name == shared_standin.user


def test_service_principal_logs_in_with_its_secret(shared_standin, client_of):
    client = client_of(
        shared_standin,
        auth_type="oauth-m2m",
        client_id=shared_standin.client_id,
        client_secret=shared_standin.client_secret.get_secret_value(),
    )

    assert client.current_user.me().user_name == shared_standin.client_id


def test_wrong_secret_of_a_service_principal_is_refused(shared_standin, client_of):
    client = client_of(
        shared_standin,
        auth_type="oauth-m2m",
        client_id=shared_standin.client_id,
        client_secret="dose-wrong",
    )
    with pytest.raises(ValueError, match="invalid_client: client auth"):
        client.current_user.me()


def test_unknown_token_is_unauthenticated(shared_standin, client_of):
    client = client_of(shared_standin, token="dapi-wrong", auth_type="pat")

    with pytest.raises(errors.Unauthenticated, match="invalid access token"):
        client.current_user.me()


def test_endpoint_tells_its_state_and_all_its_hosts(shared_standin, client_of):
    client = client_of(shared_standin)

    endpoint = client.postgres.get_endpoint(shared_standin.endpoint)

    status = endpoint.status
    assert status.current_state is EndpointStatusState.ACTIVE
    first = status.hosts.host.partition(".")[0]
    assert first == endpoint.uid
    assert status.hosts.read_only_host.startswith(f"{first}-ro.")
    assert status.hosts.read_write_pooled_host.startswith(f"{first}-pooler.")
    assert status.hosts.read_only_pooled_host.startswith(f"{first}-ro-pooler.")
    assert status.autoscaling_limit_min_cu == 1.0


def test_lists_lead_from_projects_to_endpoints(shared_standin, client_of):
    postgres = client_of(shared_standin).postgres

    (project,) = postgres.list_projects()
    (branch,) = postgres.list_branches(project.name)
    (endpoint,) = postgres.list_endpoints(branch.name)

    assert endpoint.name == shared_standin.endpoint
    assert branch.status.default
    assert postgres.get_branch(branch.name).name == branch.name
    assert postgres.get_project(project.name).status.default_branch == branch.name


def test_instance_tells_its_state_and_hosts(shared_standin, client_of):
    database = client_of(shared_standin).database

    instance = database.get_database_instance(shared_standin.instance)

    assert instance.state.value == "AVAILABLE"
    assert instance.read_write_dns != instance.read_only_dns
    assert [i.name for i in database.list_database_instances()] == [instance.name]


@pytest.mark.parametrize("ttl_s", [300, 1200, 3600])
def test_token_of_an_endpoint_expires_when_asked(shared_standin, client_of, ttl_s):
    before = SYSTEM_CLOCK.now()

    answer = client_of(shared_standin).postgres.generate_database_credential(
        shared_standin.endpoint, ttl=Duration(seconds=ttl_s)
    )

    ends_at = answer.expire_time.ToDatetime(tzinfo=UTC)
    late_s = (ends_at - before - timedelta(seconds=ttl_s)).total_seconds()
    assert 0 <= late_s < 30


def test_token_of_an_instance_lives_for_an_hour(shared_standin, client_of):
    before = SYSTEM_CLOCK.now()

    answer = client_of(shared_standin).database.generate_database_credential(
        instance_names=[shared_standin.instance]
    )

    ends_at = datetime.fromisoformat(answer.expiration_time)
    assert 0 <= (ends_at - before).total_seconds() - 3600 < 30


def test_token_life_shrinks_with_the_time_scale(make_lakebase_standin, client_of):
    standin = make_lakebase_standin(time_scale=600)
    before = SYSTEM_CLOCK.now()

    answer = client_of(standin).postgres.generate_database_credential(
        standin.endpoint, ttl=Duration(seconds=1200)
    )

    ends_at = answer.expire_time.ToDatetime(tzinfo=UTC)
    assert 1.9 <= (ends_at - before).total_seconds() < 30


@pytest.mark.parametrize("ttl_s", [0, 60, 298, 3601])
def test_lifetime_the_service_does_not_grant_is_refused(
    shared_standin, client_of, ttl_s
):
    with pytest.raises(errors.InvalidParameterValue, match="300 to 3600"):
        client_of(shared_standin).postgres.generate_database_credential(
            shared_standin.endpoint, ttl=Duration(seconds=ttl_s)
        )


def test_what_does_not_exist_is_not_found(shared_standin, client_of):
    client = client_of(shared_standin)
    for ask in (
        lambda: client.postgres.get_endpoint("projects/x/branches/y/endpoints/z"),
        lambda: client.postgres.generate_database_credential("projects/x"),
        lambda: client.database.get_database_instance("none"),
        lambda: client.database.generate_database_credential(instance_names=["none"]),
    ):
        with pytest.raises(errors.NotFound):
            ask()


def test_projects_branches_endpoints_and_instances_can_be_made(
    make_lakebase_standin, client_of
):
    client = client_of(make_lakebase_standin())
    postgres = client.postgres

    project = postgres.create_project(Project(), "films").wait()
    branch = postgres.create_branch(project.name, Branch(), "dev").wait()
    spec = EndpointSpec(
        endpoint_type=None, autoscaling_limit_min_cu=2, autoscaling_limit_max_cu=4
    )
    made = postgres.create_endpoint(branch.name, Endpoint(spec=spec), "fast").wait()
    instance = client.database.create_database_instance_and_wait(
        DatabaseInstance(name="films", capacity="CU_4")
    )

    assert project.name == "projects/films"
    assert made.status.autoscaling_limit_max_cu == 4
    assert [e.name for e in postgres.list_endpoints(branch.name)] == [made.name]
    assert instance.capacity == "CU_4"
    names = [i.name for i in client.database.list_database_instances(page_size=1)]
    assert names == ["shop-instance", "films"]
    with pytest.raises(errors.DatabricksError, match="already exists"):
        postgres.create_branch(project.name, Branch(), "dev")


def test_size_of_an_endpoint_can_be_changed_within_the_limits(
    make_lakebase_standin, client_of
):
    standin = make_lakebase_standin()
    postgres = client_of(standin).postgres

    def resize(low, high):
        spec = EndpointSpec(
            endpoint_type=None,
            autoscaling_limit_min_cu=low,
            autoscaling_limit_max_cu=high,
        )
        return postgres.update_endpoint(
            standin.endpoint, Endpoint(spec=spec), FieldMask(paths=["spec"])
        )

    assert resize(4, 8).wait().status.autoscaling_limit_min_cu == 4
    with pytest.raises(errors.InvalidParameterValue, match="max - min <= 16"):
        resize(1, 32)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.Unauthenticated),
        (403, errors.PermissionDenied),
        (404, errors.NotFound),
        (500, errors.InternalError),
    ],
)
def test_failure_on_demand_is_the_sdks_own_exception(
    make_lakebase_standin, client_of, status, kind
):
    standin = make_lakebase_standin()
    client = client_of(standin)
    standin.fail_http("Me", status=status)

    with pytest.raises(kind):
        client.current_user.me()
    assert client.current_user.me().user_name == standin.user


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_waited_for_by_the_sdk(make_lakebase_standin, client_of, status):
    standin = make_lakebase_standin()
    client = client_of(standin, retry_s=10)
    standin.fail_http("Me", status=status, headers={"Retry-After": "1"})

    client.current_user.me()

    first, second = standin.requests("Me")
    assert (first["status"], second["status"]) == (status, 200)
    assert second["at_s"] - first["at_s"] >= 1.0


def test_fault_hits_the_requests_it_names_and_no_others(
    make_lakebase_standin, client_of
):
    standin = make_lakebase_standin()
    client = client_of(standin)
    standin.fail_http("Me", status=403, skip=2, count=2)

    outcomes = []
    for _ in range(6):
        client.postgres.get_endpoint(standin.endpoint)
        try:
            client.current_user.me()
        except errors.PermissionDenied:
            outcomes.append("refused")
        else:
            outcomes.append("told")

    assert outcomes == ["told", "told", "refused", "refused", "told", "told"]


def test_fault_of_a_length_of_time_ends_with_it(make_lakebase_standin, client_of):
    standin = make_lakebase_standin()
    client = client_of(standin, retry_s=20)
    standin.fail_http("Me", status=503, count=None, until_s=1.0)

    client.current_user.me()  # the SDK retries until the second is over

    *failed, told = standin.requests("Me")
    assert failed
    assert {entry["status"] for entry in failed} == {503}
    assert told["status"] == 200


def test_slow_answer_is_right_and_late(make_lakebase_standin, client_of):
    standin = make_lakebase_standin()
    client = client_of(standin)
    standin.fail_http("Me", delay_s=0.5)

    begin_ns = SYSTEM_CLOCK.monotonic_ns()
    assert client.current_user.me().user_name == standin.user

    assert SYSTEM_CLOCK.monotonic_ns() - begin_ns >= 0.5e9


def test_request_without_answer_holds_nobody_else(make_lakebase_standin, client_of):
    standin = make_lakebase_standin()
    standin.fail_http("get-lost", status=200, hangs=True, count=None)
    client = client_of(standin, answer_s=0.5)
    with pytest.raises((OSError, TimeoutError, errors.DatabricksError)):
        client.api_client.do("GET", "/api/2.0/get-lost")

    assert client.current_user.me().user_name == standin.user


def test_journal_knows_every_request_and_no_secret(make_lakebase_standin, client_of):
    standin = make_lakebase_standin()
    client = client_of(
        standin,
        auth_type="oauth-m2m",
        client_id=standin.client_id,
        client_secret=standin.client_secret.get_secret_value(),
    )
    client.postgres.generate_database_credential(standin.endpoint)

    (mint,) = standin.requests("credentials")
    assert mint["body"] == {"endpoint": standin.endpoint}
    (token,) = standin.minted_tokens()
    plan = standin.plan
    text = f"{standin.journal()} {standin!r} {plan!r}"
    secrets = (token, plan.token, plan.client_secret, plan.native_password)
    for secret in secrets:
        assert secret not in text


def test_journal_says_what_it_forgot(monkeypatch):
    monkeypatch.setattr("harness.lakebase.standin.journal.ENTRIES_MAX", 3)
    journal = Journal()
    for number in range(5):
        journal.note("login", number=number)

    told = journal.to_mapping()
    assert [e["number"] for e in told["entries"]] == [2, 3, 4]
    assert told["counts"] == {"login": 5}
    assert told["forgotten"] == 2


def test_secrets_are_in_no_argument_and_no_environment(shared_standin):
    process = psutil.Process(shared_standin.pid)
    text = f"{process.cmdline()} {process.environ()}"

    plan = shared_standin.plan
    for secret in (plan.token, plan.client_secret, plan.native_password):
        assert secret not in text


def test_standin_ends_with_its_parent_even_after_kill_9():
    code = (
        "from harness.lakebase.standin.standin import LakebaseStandin\n"
        "standin = LakebaseStandin()\n"
        "print(standin.pid, flush=True)\n"
        "input()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        standin = psutil.Process(int(parent.stdout.readline()))
        assert standin.is_running()
        parent.kill()
    assert not psutil.wait_procs([standin], timeout=10)[1]


def test_standin_that_is_gone_is_a_target_error():
    with LakebaseStandin() as standin:
        psutil.Process(standin.pid).kill()
        with pytest.raises(TargetError, match="is gone"):
            standin.journal()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"time_scale": 0}, "time_scale must be > 0, got 0"),
        ({"wake_s": -1}, "wake_s must be >= 0, got -1"),
        ({"cu": 0.25}, "cu must be between 0.5 and 112, got 0.25"),
        ({"pool_size": 0}, "pool_size must be >= 1, got 0"),
    ],
)
def test_wrong_plan_is_an_error_before_anything_starts(wrong, said):
    with pytest.raises(ConfigError, match=said):
        StandinPlan(**wrong)


def test_connection_limits_are_the_published_ones():
    published = {0.5: 104, 1: 209, 2: 419, 3: 629, 4: 839, 8: 1678, 16: 3357, 24: 4000}

    assert {cu: max_connections_of(cu) for cu in published} == published
    assert max_connections_of(112) == 4000
