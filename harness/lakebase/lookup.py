"""Which database of a workspace is meant, where only parts or its host are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import (
    Classification,
    CredentialError,
    ErrorCategory,
    Severity,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databricks.sdk.service.postgres import Endpoint

    from harness.lakebase.workspace import Workspace
    from harness.settings import Settings

MISCONFIGURED = Classification(
    ErrorCategory.CONFIGURATION, Severity.CRITICAL, Verdict.PERMANENT
)
# What a workspace says that has one of the two products only.
_ABSENT = (ErrorCategory.CONFIGURATION, ErrorCategory.AUTHORIZATION)
READ_ONLY = "ENDPOINT_TYPE_READ_ONLY"


class Database(NamedTuple):
    """A database as the workspace's two products name it.

    Attributes:
        name: `projects/<p>/branches/<b>/endpoints/<e>`, or the instance's name.
        is_instance: Whether it is a Provisioned instance, else an endpoint.
    """

    name: str
    is_instance: bool


def database_of(workspace: Workspace, settings: Settings) -> Database:
    """Return the database that the settings mean, looked up where they do not say.

    Raises:
        CredentialError: There is none, or there are several to choose from.
    """
    lakebase = settings.lakebase
    if lakebase.instance_name is not None:
        return Database(lakebase.instance_name, is_instance=True)
    if lakebase.endpoint is not None:
        return Database(lakebase.endpoint, is_instance=False)
    if lakebase.project is not None:
        name = find_endpoint(
            workspace, project=lakebase.project, branch=lakebase.branch
        )
        return Database(name, is_instance=False)
    return find_database_of_host(workspace, lakebase.host or "")


def find_endpoint(workspace: Workspace, *, project: str, branch: str) -> str:
    """Return the name of the endpoint of a branch that takes writes.

    Args:
        workspace: Who is asked.
        project: Its id, or its full name `projects/<p>`.
        branch: Its id.

    Raises:
        CredentialError: There is none, or there are several.
    """
    parent = f"projects/{project.removeprefix('projects/')}/branches/{branch}"
    found = [
        endpoint.name
        for endpoint in _endpoints(workspace, parent)
        if endpoint.name and _takes_writes(endpoint)
    ]
    if len(found) == 1:
        return found[0]
    what = f"several ({', '.join(sorted(found))})" if found else "none"
    msg = (
        f"branch {parent!r} must have one endpoint that takes writes, and has "
        f"{what}: set LAKEBASE_ENDPOINT"
    )
    raise CredentialError(msg, classification=MISCONFIGURED)


def find_database_of_host(workspace: Workspace, host: str) -> Database:
    """Return the database behind a host name, which is all that an App is given.

    Endpoints come first: an instance that has become a project is both.

    Raises:
        CredentialError: The identity sees no database with this host.
    """
    for look, is_instance in ((_endpoint_names, False), (_instance_names, True)):
        try:
            name = next((n for n, at in look(workspace) if at == host), None)
        except CredentialError as error:
            found = error.classification
            if found is None or found.category not in _ABSENT:
                raise
            continue
        if name is not None:
            return Database(name, is_instance=is_instance)
    msg = (
        f"the identity sees no endpoint and no instance with the host {host!r}: set "
        "LAKEBASE_ENDPOINT, or LAKEBASE_INSTANCE_NAME, or LAKEBASE_PASSWORD"
    )
    raise CredentialError(msg, classification=MISCONFIGURED)


def _endpoint_names(workspace: Workspace) -> Iterator[tuple[str, str | None]]:
    """Yield each endpoint's name and host."""
    postgres = workspace.client.postgres
    for project in workspace.call(
        "list the projects", lambda: list(postgres.list_projects())
    ):
        for branch in _branches(workspace, project.name or ""):
            for endpoint in _endpoints(workspace, branch.name or ""):
                hosts = endpoint.status.hosts if endpoint.status else None
                if endpoint.name and hosts:
                    yield endpoint.name, hosts.host


def _instance_names(workspace: Workspace) -> Iterator[tuple[str, str | None]]:
    """Yield each instance's name and host."""
    database = workspace.client.database
    for instance in workspace.call(
        "list the instances", lambda: list(database.list_database_instances())
    ):
        yield instance.name, instance.read_write_dns


def _branches(workspace: Workspace, project: str) -> list[Any]:
    return workspace.call(
        f"list the branches of {project!r}",
        lambda: list(workspace.client.postgres.list_branches(project)),
    )


def _endpoints(workspace: Workspace, branch: str) -> list[Endpoint]:
    return workspace.call(
        f"list the endpoints of {branch!r}",
        lambda: list(workspace.client.postgres.list_endpoints(branch)),
    )


def _takes_writes(endpoint: Endpoint) -> bool:
    """Whether an endpoint is no read replica; the service may not say."""
    status, spec = endpoint.status, endpoint.spec
    kind = status.endpoint_type if status else None
    if kind is None and spec is not None:
        kind = spec.endpoint_type
    return kind is None or kind.value != READ_ONLY
