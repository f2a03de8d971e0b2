"""The agent endpoint and how patiently it is called."""

from __future__ import annotations

from typing import Annotated

from harness.settings.field import (
    Delay,
    Group,
    Seconds,
    Secret,
    Setting,
    Size,
    Text,
    Url,
)


class AgentSettings(Group):
    """Address, credential and retries of an agent endpoint.

    There is no default address: a token must never go to a host nobody named.
    """

    token: Annotated[
        Secret | None, Setting("DATABRICKS_TOKEN", "Token sent to the endpoint.")
    ] = None
    base_url: Annotated[
        Url | None,
        Setting(
            "DATABRICKS_BASE_URL",
            "Address of the serving endpoints, <workspace>/serving-endpoints.",
        ),
    ] = None
    model: Annotated[
        Text | None, Setting("DATABRICKS_MODEL", "Name of the endpoint to ask.")
    ] = None
    max_retries: Annotated[
        Size,
        Setting("AGENTBRICKS_MAX_RETRIES", "Retries after the first attempt."),
    ] = 3
    retry_delay_s: Annotated[
        Delay,
        Setting(
            "AGENTBRICKS_RETRY_DELAY",
            "Longest wait before a retry, in seconds.",
            json="retry_delay",
        ),
    ] = 30.0
    timeout_s: Annotated[
        Seconds,
        Setting(
            "AGENTBRICKS_TIMEOUT",
            "Longest call in seconds, retries and waits included.",
            json="timeout",
        ),
    ] = 60.0
