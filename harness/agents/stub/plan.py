"""What a stub answers, and when."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from harness.agents.stub.capacity import Capacity
from harness.agents.stub.faults import Fault
from harness.clock import NS_PER_S
from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What a stub keeps rendered; no agent's answer is longer.
TOKENS_MAX = 200_000
Tls = Literal["off", "on", "untrusted", "expired", "wrong-host", "broken"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StubPlan:
    """Size, shape and timing of every answer, and what goes wrong.

    Attributes:
        ttft_s: Time from the whole request read until the first token is due;
            the median when *ttft_sigma* is not 0.
        itl_s: Time between two tokens; the median when *itl_sigma* is not 0.
        tokens: Tokens of an answer; the median when *tokens_sigma* is not 0.
        ttft_sigma: Spread of a lognormal TTFT; 0 makes it constant.
        itl_sigma: Spread of lognormal gaps between tokens; 0 makes them constant.
        ttft_trace_s: TTFTs seen elsewhere, used in turn instead of the above.
        itl_trace_s: Gaps between tokens seen elsewhere, likewise.
        tokens_sigma: Spread of a lognormal length of the answers, cut off at three
            sigmas (0.13 % of them); 0 makes it constant.
        tokens_trace: Lengths of answers seen elsewhere, used in turn.
        block_tokens: Tokens per `output_text` block: the platform cuts an answer
            into one block per cited span.
        created: Whether a stream begins with `response.created`.
        completed: Whether it ends with `response.completed` before `[DONE]`.
        deltas: Whether text comes in deltas; a Supervisor sends it only whole.
        footnotes: Whether the finished item holds footnote marks the deltas lack.
        traced: Whether an untyped event with the trace id comes first.
        event_names: Whether frames carry `event:` lines, as other servers do.
        task: What `GET /api/2.0/serving-endpoints/<name>` calls the endpoint's task.
        client_id: Service principal the OAuth paths give tokens to.
        token_ttl_s: How long those tokens are accepted, in seconds.
        capacity: How much it can serve at once.
        faults: What it does wrong, and when.
        tls: Whether it speaks HTTPS, and what is wrong with that: "untrusted" (by
            an unknown issuer), "expired", "wrong-host", "broken" (no TLS at all).
        replay: Recorded answers, given in turn instead of made-up ones.
        replay_speed: How much faster than recorded they are given.
        seed: Seed of everything random.
    """

    ttft_s: float = 0.020
    itl_s: float = 0.005
    tokens: int = 20
    ttft_sigma: float = 0.0
    itl_sigma: float = 0.0
    ttft_trace_s: tuple[float, ...] = ()
    itl_trace_s: tuple[float, ...] = ()
    tokens_sigma: float = 0.0
    tokens_trace: tuple[int, ...] = ()
    block_tokens: int = 8
    created: bool = False
    completed: bool = True
    deltas: bool = True
    footnotes: bool = False
    traced: bool = False
    event_names: bool = False
    task: str = "agent/v1/responses"
    client_id: str = "00000000-stub-client"
    token_ttl_s: float = 3600.0
    capacity: Capacity = field(default_factory=Capacity)
    faults: tuple[Fault, ...] = ()
    tls: Tls = "off"
    replay: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    replay_speed: float = 1.0
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("ttft_s", "itl_s", "ttft_sigma", "itl_sigma", "tokens_sigma"):
            _check_not_negative(name, getattr(self, name))
        for name in ("tokens", "block_tokens"):
            if getattr(self, name) < 1:
                msg = f"{name} must be >= 1, got {getattr(self, name)}"
                raise ConfigError(msg)
        for name in ("replay_speed", "token_ttl_s"):
            if getattr(self, name) <= 0:
                msg = f"{name} must be > 0, got {getattr(self, name)}"
                raise ConfigError(msg)
        traces = ("ttft_trace_s", "itl_trace_s", "tokens_trace")
        for name in (*traces, "faults", "replay"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("ttft_trace_s", "itl_trace_s"):
            for value in getattr(self, name):
                _check_not_negative(name, value)
        self._check_lengths()
        if self.tls not in get_args(Tls):
            msg = f"tls is {self.tls!r}; it must be one of {', '.join(get_args(Tls))}"
            raise ConfigError(msg)

    def _check_lengths(self) -> None:
        for count in self.tokens_trace:
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                msg = f"tokens_trace must hold whole numbers >= 1, got {count!r}"
                raise ConfigError(msg)
        if self.tokens_max > TOKENS_MAX:
            msg = (
                f"answers would have up to {self.tokens_max} tokens; at most "
                f"{TOKENS_MAX} are served: lower tokens, tokens_sigma or tokens_trace"
            )
            raise ConfigError(msg)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Return the plan that *values* describe.

        Raises:
            ConfigError: If a name is unknown or a value impossible.
        """
        try:
            given = dict(values)
            if "capacity" in given:
                given["capacity"] = Capacity(**given["capacity"])
            if "faults" in given:
                given["faults"] = tuple(map(Fault.from_mapping, given["faults"]))
            return cls(**given)
        except TypeError as error:
            msg = f"not a stub plan: {error}"
            raise ConfigError(msg) from error

    def to_mapping(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        values = asdict(self)
        for fault in values["faults"]:
            # JSON has no infinity.
            fault["until_s"] = (
                None if math.isinf(fault["until_s"]) else fault["until_s"]
            )
        return values

    def ttft_ns(self, request_index: int) -> int:
        """Return the TTFT of one request; the same for the same index and seed."""
        ttft_s = self.ttft_s
        if self.ttft_trace_s:
            ttft_s = self.ttft_trace_s[request_index % len(self.ttft_trace_s)]
        elif self.ttft_sigma:
            ttft_s *= self._random(request_index, "ttft").lognormvariate(
                0.0, self.ttft_sigma
            )
        return round(ttft_s * NS_PER_S)

    @property
    def tokens_max(self) -> int:
        """Tokens of the longest answer there can be."""
        if self.tokens_trace:
            return max(self.tokens_trace)
        # Far beyond what is served, where the power would overflow.
        return round(self.tokens * math.exp(min(3 * self.tokens_sigma, 50.0)))

    def tokens_count(self, request_index: int) -> int:
        """Return the tokens of one answer; the same for the same index and seed."""
        if self.tokens_trace:
            return self.tokens_trace[request_index % len(self.tokens_trace)]
        if not self.tokens_sigma:
            return self.tokens
        drawn = self.tokens * self._random(request_index, "tokens").lognormvariate(
            0.0, self.tokens_sigma
        )
        return min(max(1, round(drawn)), self.tokens_max)

    def token_offsets_ns(self, request_index: int) -> Sequence[int]:
        """Return when each token is due, from the first one's time on.

        Computed from the start, never from when the last token was really written:
        no delay adds up over an answer.
        """
        tokens = self.tokens_count(request_index)
        if self.itl_trace_s:
            trace, start = self.itl_trace_s, request_index * (self.tokens - 1)
            gaps_s = [trace[(start + i) % len(trace)] for i in range(tokens - 1)]
        elif self.itl_sigma:
            random = self._random(request_index, "itl")
            gaps_s = [
                self.itl_s * random.lognormvariate(0.0, self.itl_sigma)
                for _ in range(tokens - 1)
            ]
        else:
            itl_ns = round(self.itl_s * NS_PER_S)
            if not itl_ns:
                return (0,) * tokens
            return range(0, itl_ns * tokens, itl_ns)
        return [0, *accumulate(round(gap_s * NS_PER_S) for gap_s in gaps_s)]

    def _random(self, request_index: int, what: str) -> Random:
        return Random(f"{self.seed}/{what}/{request_index}")  # noqa: S311 - no secret


def _check_not_negative(name: str, value: float) -> None:
    if not math.isfinite(value) or value < 0:
        msg = f"{name} must be >= 0, got {value}"
        raise ConfigError(msg)
