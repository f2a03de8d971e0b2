"""Fixtures `agent`, `agent_stub`, `make_agent_stub`: whom to ask, and proof of it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness.agents.answer import Answer
    from harness.agents.answer_watch import AnswerWatch
    from harness.agents.client import AgentClient
    from harness.agents.stub.process import AgentStub

FIXTURES = frozenset(
    ("agent", "agent_proof", "agent_stub", "make_agent_stub", "make_agent_target")
)
# These ask whom `--agent` chooses; the others always a stub.
CHOSEN = frozenset(("agent", "make_agent_target"))
STUB, ENDPOINT = "stub", "endpoint"

# The stubs a test made itself, and the one all others share, for the facts.
MADE: pytest.StashKey[list[AgentStub]] = pytest.StashKey()
SHARED: pytest.StashKey[AgentStub] = pytest.StashKey()
WATCH: pytest.StashKey[AnswerWatch] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the choice between the stub and a real endpoint."""
    parser.getgroup("lakegauge").addoption(
        "--agent",
        choices=(STUB, ENDPOINT),
        default=STUB,
        help="agent to measure: our stub, or the endpoint of DATABRICKS_BASE_URL "
        "and DATABRICKS_MODEL (real requests, which cost tokens)",
    )


@pytest.fixture(scope="session")
def agent_stub(pytestconfig: pytest.Config) -> Iterator[AgentStub]:
    """A stub endpoint in a process of its own: 20 tokens, 20 ms, then every 5 ms."""
    from harness.agents.stub.process import AgentStub

    with AgentStub() as stub:
        pytestconfig.stash[SHARED] = stub
        yield stub


@pytest.fixture
def make_agent_stub(
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., AgentStub]]:
    """Return a factory of stubs: `make_agent_stub(ttft_s=..., itl_s=..., tokens=...)`.

    Takes what `StubPlan` takes. Each is ended at teardown.
    """
    from harness.agents.stub.plan import StubPlan
    from harness.agents.stub.process import AgentStub

    made = request.node.stash.setdefault(MADE, [])
    with ExitStack() as stack:

        def make(**plan: Any) -> AgentStub:
            stub = stack.enter_context(AgentStub(StubPlan(**plan)))
            made.append(stub)
            return stub

        yield make


@pytest.fixture
def make_agent() -> Iterator[Callable[..., AgentClient]]:
    """Return a factory of clients of a stub; further arguments go to the client."""
    from harness.agents.client import AgentClient

    with ExitStack() as stack:

        def make(stub: AgentStub, **options: Any) -> AgentClient:
            arguments = {
                "base_url": stub.base_url,
                "token": stub.token,
                "model": stub.model,
                **options,
            }
            return stack.enter_context(AgentClient(**arguments))

        yield make


@pytest.fixture
def agent(request: pytest.FixtureRequest) -> Iterator[AgentClient]:
    """The agent under test, as a client that sends each question once.

    `--agent` chooses: the stub, or the endpoint that the settings name.
    """
    if request.config.getoption("--agent") == ENDPOINT:
        from harness.agents.client import AgentClient

        settings = request.getfixturevalue("settings")
        # A retry inside a measured call would hide what it is to find.
        with AgentClient.from_settings(
            settings.agent, databricks=settings.databricks, max_retries=0
        ) as client:
            yield client
    else:
        make = request.getfixturevalue("make_agent")
        yield make(request.getfixturevalue("agent_stub"))


class AgentTarget(NamedTuple):
    """Whom a benchmark asks.

    Attributes:
        agent: A client of it.
        stub: The stub behind it; None for a real endpoint, whose size and faults
            nobody plans.
    """

    agent: AgentClient
    stub: AgentStub | None


@pytest.fixture
def make_agent_target(
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., AgentTarget]]:
    """Return a factory of what `--agent` chooses: `make_agent_target(plan, **client)`.

    *plan* is what a stub is made of, by `StubPlan`'s names, and is nothing to a real
    endpoint; the other arguments go to the client.
    """
    if request.config.getoption("--agent") == STUB:
        make_stub = request.getfixturevalue("make_agent_stub")
        make_client = request.getfixturevalue("make_agent")

        def make(plan: Mapping[str, Any], **options: Any) -> AgentTarget:
            stub = make_stub(**plan)
            return AgentTarget(make_client(stub, **options), stub)

        yield make
        return
    from harness.agents.client import AgentClient

    settings = request.getfixturevalue("settings")
    with ExitStack() as stack:

        def make_real(plan: Mapping[str, Any], **options: Any) -> AgentTarget:
            del plan
            client = AgentClient.from_settings(
                settings.agent,
                databricks=settings.databricks,
                **{"max_retries": 0, **options},
            )
            return AgentTarget(stack.enter_context(client), None)

        yield make_real


class AgentProof:
    """Checks a run against the stub's journal; an endpoint has none to check.

    Args:
        stub: The stub asked, or None for a real endpoint.
        strict: Whether a late stub fails the run.
    """

    def __init__(self, stub: AgentStub | None, *, strict: bool) -> None:
        self._stub = stub
        self._strict = strict

    def begin(self) -> None:
        """Begin a run."""
        if self._stub is not None:
            self._stub.reset()

    def check(
        self, answers: Sequence[Answer], *, failed_count: int = 0
    ) -> dict[str, float]:
        """Check every answer since `begin` and return what a report should say.

        Raises:
            WorkNotDoneError: If a token sent was not received, or none was sent.
            StubLateError: If the stub could not keep its own schedule.
        """
        import numpy as np

        from harness.agents.proof import prove_tokens, require_punctual
        from harness.errors import WorkNotDoneError

        empty = [a.request_id for a in answers if not a.text or not a.timing.token_ns]
        if not answers or empty:
            msg = f"{len(empty)} of {len(answers)} answers hold no text"
            raise WorkNotDoneError(msg)
        if self._stub is None:
            return {}
        proof = prove_tokens(self._stub.statement(), answers, failed_count=failed_count)
        if self._strict:
            require_punctual(proof.lateness_ms, self._stub.plan)
        p50, p99 = np.quantile(proof.client_added_ms, [0.5, 0.99])
        return {
            "tokens_count": proof.tokens_count,
            "stub_lateness_ms_p50": round(proof.lateness_ms.p50, 3),
            "stub_lateness_ms_p99": round(proof.lateness_ms.p99, 3),
            "client_added_ms_p50": round(float(p50), 3),
            "client_added_ms_p99": round(float(p99), 3),
        }


@pytest.fixture
def agent_proof(request: pytest.FixtureRequest) -> AgentProof:
    """Proof that the answers of a run of `agent` were really sent and received."""
    config = request.config
    stub = None
    if config.getoption("--agent") == STUB:
        stub = request.getfixturevalue("agent_stub")
    # Without measuring, perhaps beside other tests, lateness spoils nothing.
    return AgentProof(stub, strict=not config.option.benchmark_disable)


def pytest_lakegauge_preflight(
    config: pytest.Config, items: Sequence[pytest.Item]
) -> None:
    """Check what asking an agent needs, before any work starts."""
    if not any(_uses_agent(item) for item in items):
        return
    from importlib.util import find_spec

    if find_spec("httpcore2") is None:
        msg = "the agent client needs httpx2: run `pip install 'lakegauge[agents]'`"
        raise ConfigError(msg)
    if config.getoption("--agent") == ENDPOINT:
        _endpoint_of(config)


def pytest_lakegauge_facts(item: pytest.Item) -> dict[str, Any] | None:
    """Say whom an item asked."""
    if not _uses_agent(item):
        return None
    made = item.stash.get(MADE, [])
    if not made and item.config.getoption("--agent") == ENDPOINT:
        host, model = _endpoint_of(item.config)
        return {"agent": ENDPOINT, "agent_host": host, "agent_model": model}
    stub = made[0] if made else item.config.stash.get(SHARED, None)
    return {"agent": STUB, **(stub.facts() if stub is not None else {})}


def pytest_lakegauge_live(item: pytest.Item) -> dict[str, Any] | None:
    """Say how fast the agents of an item answer."""
    if not _uses_agent(item):
        return None
    from harness.agents.answer_watch import AnswerWatch

    watch = item.stash.setdefault(WATCH, AnswerWatch())
    return {"agents": watch.look()}


def pytest_report_collectionfinish(
    config: pytest.Config, items: Sequence[pytest.Item]
) -> list[str]:
    """Say which agent is asked."""
    asked = {name for item in items for name in getattr(item, "fixturenames", ())}
    real = config.getoption("--agent") == ENDPOINT
    # A target that is a stub has a plan of its own.
    if not asked & (CHOSEN if real else {"agent"}):
        return []
    if real:
        host, model = _endpoint_of(config)
        return [f"agent: endpoint {model} at {host} (--agent=endpoint)"]
    from harness.agents.stub.plan import StubPlan

    plan = StubPlan()
    line = (
        f"agent: stub, {plan.tokens} tokens, the first after {plan.ttft_s * 1000:g} "
        f"ms, then every {plan.itl_s * 1000:g} ms (--agent=stub)"
    )
    return [line]


def _endpoint_of(config: pytest.Config) -> tuple[str, str]:
    """Return (host, model) of the configured endpoint.

    Raises:
        ConfigError: If it is not configured.
    """
    from harness.agents.client import require_endpoint
    from harness.settings.checks import missing_for
    from harness.settings.fixtures import settings_of

    settings = settings_of(config)
    agent, workspace_url = settings.agent, settings.databricks.workspace_url
    if missing_for(settings, "agent"):
        require_endpoint(agent)  # says what is missing, or that a login is enough
    base_url = agent.base_url or workspace_url or "the profile's workspace"
    return urlsplit(base_url).hostname or base_url, agent.model or ""


def _uses_agent(item: pytest.Item) -> bool:
    return not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
