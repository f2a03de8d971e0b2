"""What a compute of Lakebase Autoscaling takes, by its size."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import ConfigError

CU_MIN, CU_MAX = 0.5, 112.0
CONNECTIONS_MAX = 4000
CONNECTIONS_PER_CU = 209.8125
# The smallest is offered in a half; from one on only whole units are.
HALF_CU = 0.5


def max_connections_of(cu: float) -> int:
    """Return how many connections a compute of *cu* units takes.

    The published sizes (0.5: 104, 1: 209, 2: 419, 4: 839, 16: 3357, from 24 on 4000)
    exactly; between them in proportion.
    """
    return min(CONNECTIONS_MAX, int(cu * CONNECTIONS_PER_CU))


@dataclass(frozen=True, slots=True)
class ComputeSize:
    """The size up to which a compute grows; its connection limit follows from that.

    Attributes:
        cu: Compute units.
    """

    cu: float

    def __post_init__(self) -> None:
        if not CU_MIN <= self.cu <= CU_MAX:
            msg = f"cu must be between {CU_MIN} and {CU_MAX:g}, got {self.cu}"
            raise ConfigError(msg)

    @property
    def max_connections(self) -> int:
        """How many connections it takes, by the published table."""
        return max_connections_of(self.cu)

    def describe(self) -> str:
        """Return the size and its limit, for a message."""
        return f"{self.cu:g} CU take {self.max_connections}"

    @staticmethod
    def that_takes(connections: int) -> ComputeSize | None:
        """Return the smallest compute that takes so many; None if none does."""
        sizes = (HALF_CU, *range(1, int(CU_MAX) + 1))
        for cu in sizes:
            if max_connections_of(cu) >= connections:
                return ComputeSize(cu)
        return None
