"""What a Databricks App is given suffices: PGHOST and a service principal."""

from __future__ import annotations

import pytest

from harness.errors import CredentialError, ErrorCategory
from harness.lakebase.lookup import Database, database_of
from harness.lakebase.target import start_lakebase
from harness.lakebase.workspace import Workspace
from harness.settings import load_settings


@pytest.fixture
def app_settings(tmp_path):
    """Return a function: the settings of an App on a stand-in, by its environment."""

    def make(standin, host):
        root = str(standin.root_file)
        environment = {
            "LAKEGAUGE_TARGET": "lakebase",
            "DATABRICKS_HOST": standin.url,
            "DATABRICKS_CLIENT_ID": standin.client_id,
            "DATABRICKS_CLIENT_SECRET": standin.client_secret.get_secret_value(),
            "PGHOST": host,
            "PGPORT": str(standin.port),
            "PGDATABASE": standin.settings().lakebase.database,
            "PGUSER": standin.client_id,
            "PGSSLMODE": "require",
            "PGAPPNAME": "an-app",
        }
        settings = load_settings(environ=environment, cwd=tmp_path, root=tmp_path)
        return settings, {"hostaddr": "127.0.0.1", "sslrootcert": root}

    return make


@pytest.mark.parametrize("product", ["endpoint", "instance"])
def test_an_app_logs_in_with_tokens_of_the_database_its_host_belongs_to(
    shared_standin, app_settings, client_of, product
):
    client = client_of(shared_standin)
    if product == "instance":
        name = shared_standin.instance
        host = client.database.get_database_instance(name).read_write_dns
        minted = "/api/2.0/database/credentials"
    else:
        name = shared_standin.endpoint
        host = client.postgres.get_endpoint(name).status.hosts.host
        minted = "/api/2.0/postgres/credentials"
    settings, reach = app_settings(shared_standin, host)
    shared_standin.clear_journal()

    server = start_lakebase(settings, reach=reach)
    server.close()

    asked = [entry["path"] for entry in shared_standin.requests()]
    assert minted in asked
    found = database_of(Workspace(settings), settings)
    assert found == Database(name, is_instance=product == "instance")


def test_an_instance_is_found_where_the_other_product_is_not_there(
    make_lakebase_standin, app_settings, client_of
):
    standin = make_lakebase_standin()
    name = standin.instance
    host = client_of(standin).database.get_database_instance(name).read_write_dns
    settings, _ = app_settings(standin, host)
    standin.fail_http("/api/2.0/postgres/", status=404, count=None)

    found = database_of(Workspace(settings), settings)

    assert found == Database(name, is_instance=True)


def test_a_workspace_in_trouble_is_not_taken_for_one_without_the_database(
    make_lakebase_standin, app_settings
):
    standin = make_lakebase_standin()
    settings, _ = app_settings(standin, "somewhere.example.com")
    standin.fail_http("/api/2.0/postgres/", status=503, count=None)

    with pytest.raises(CredentialError) as caught:
        database_of(Workspace(settings, call_timeout_s=2.0), settings)

    assert caught.value.classification.category is not ErrorCategory.CONFIGURATION


def test_a_host_that_nobody_knows_is_refused_with_what_to_set(
    shared_standin, app_settings
):
    settings, _ = app_settings(shared_standin, "somewhere.example.com")

    with pytest.raises(CredentialError, match="LAKEBASE_INSTANCE_NAME") as caught:
        database_of(Workspace(settings), settings)

    assert caught.value.classification.category is ErrorCategory.CONFIGURATION
