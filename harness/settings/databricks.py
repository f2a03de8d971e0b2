"""The Databricks workspace and the identity to use there."""

from __future__ import annotations

from typing import Annotated

from harness.settings.field import Group, Secret, Setting, Text, Url


class DatabricksSettings(Group):
    """Address and credentials of the workspace."""

    workspace_url: Annotated[
        Url | None,
        Setting(
            "DATABRICKS_WORKSPACE_URL",
            "Address of the workspace.",
            aliases=("DATABRICKS_HOST",),
        ),
    ] = None
    workspace_id: Annotated[
        Text | None,
        Setting("DATABRICKS_WORKSPACE_ID", "Id of the workspace.", used=False),
    ] = None
    personal_access_token: Annotated[
        Secret | None,
        Setting(
            "DATABRICKS_PERSONAL_ACCESS_TOKEN",
            "Personal access token.",
            aliases=("DATABRICKS_TOKEN",),
        ),
    ] = None
    username: Annotated[
        Text | None,
        Setting("DATABRICKS_USERNAME", "User name, an e-mail address."),
    ] = None
    oauth_token: Annotated[
        Secret | None, Setting("DATABRICKS_OAUTH_TOKEN", "OAuth access token.")
    ] = None
    client_id: Annotated[
        Text | None,
        Setting("DATABRICKS_CLIENT_ID", "Application id of a service principal."),
    ] = None
    client_secret: Annotated[
        Secret | None,
        Setting("DATABRICKS_CLIENT_SECRET", "OAuth secret of a service principal."),
    ] = None
    config_profile: Annotated[
        Text | None,
        Setting("DATABRICKS_CONFIG_PROFILE", "Profile in the Databricks config file."),
    ] = None
