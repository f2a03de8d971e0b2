"""What a stub answers, and when."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Self

from harness.clock import NS_PER_S
from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True, slots=True)
class StubPlan:
    """Size and timing of every answer.

    Attributes:
        ttft_s: Time from the whole request read until the first token is due;
            the median when *ttft_sigma* is not 0.
        itl_s: Time between two tokens.
        tokens: Tokens of an answer.
        ttft_sigma: Spread of a lognormal TTFT; 0 makes it constant.
        block_tokens: Tokens per `output_text` block: the platform cuts an answer
            into one block per cited span.
        created: Whether a stream begins with `response.created`.
        completed: Whether it ends with `response.completed` before `[DONE]`.
        seed: Seed of the lognormal TTFT.
    """

    ttft_s: float = 0.020
    itl_s: float = 0.005
    tokens: int = 20
    ttft_sigma: float = 0.0
    block_tokens: int = 8
    created: bool = False
    completed: bool = True
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("ttft_s", "itl_s", "ttft_sigma"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                msg = f"{name} must be >= 0, got {value}"
                raise ConfigError(msg)
        for name in ("tokens", "block_tokens"):
            if getattr(self, name) < 1:
                msg = f"{name} must be >= 1, got {getattr(self, name)}"
                raise ConfigError(msg)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Return the plan that *values* describe.

        Raises:
            ConfigError: If a name is unknown or a value impossible.
        """
        try:
            return cls(**values)
        except TypeError as error:
            msg = f"not a stub plan: {error}"
            raise ConfigError(msg) from error

    def to_mapping(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return asdict(self)

    def ttft_ns(self, request_index: int) -> int:
        """Return the TTFT of one request; the same for the same index and seed."""
        ttft_s = self.ttft_s
        if self.ttft_sigma:
            random = Random(f"{self.seed}/{request_index}")  # noqa: S311 - no secret
            ttft_s *= random.lognormvariate(0.0, self.ttft_sigma)
        return round(ttft_s * NS_PER_S)

    @property
    def itl_ns(self) -> int:
        """Time between two tokens, in nanoseconds."""
        return round(self.itl_s * NS_PER_S)
