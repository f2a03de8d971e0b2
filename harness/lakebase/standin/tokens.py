"""Who is who: workspace tokens, and the database tokens minted for them."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.clock import NS_PER_S, SYSTEM_CLOCK

if TYPE_CHECKING:
    from harness.clock import Clock
    from harness.lakebase.standin.plan import StandinPlan

ACCESS_TOKEN_S = 3600.0


@dataclass(frozen=True, slots=True)
class DatabaseToken:
    """One minted password.

    Attributes:
        number: Its place among the tokens minted, for the journal.
        user: The role it is good for.
        ends_ns: When logins with it begin to be refused, on the monotonic clock.
        computes: Uids of the computes it opens.
    """

    number: int
    user: str
    ends_ns: int
    computes: frozenset[str]


@dataclass
class Tokens:
    """Every token a stand-in has given out; each ends on its own.

    Attributes:
        plan: Who has which secret.
        clock: Decides what has expired.
        minted: Database tokens in the order they were minted.
    """

    plan: StandinPlan
    clock: Clock = SYSTEM_CLOCK
    minted: list[str] = field(default_factory=list)
    _database: dict[str, DatabaseToken] = field(default_factory=dict)
    _access: dict[str, tuple[str, int]] = field(default_factory=dict)

    def identity(self, bearer: str) -> str | None:
        """Return the user of a workspace token, or None if it is not good."""
        if hmac.compare_digest(bearer.encode(), self.plan.token.encode()):
            return self.plan.user
        user, ends_ns = self._access.get(bearer, (None, 0))
        return user if self.clock.monotonic_ns() < ends_ns else None

    def exchange(self, client_id: str, client_secret: str) -> tuple[str, float] | None:
        """Return an access token for a service principal, and its seconds to live."""
        plan = self.plan
        if client_id != plan.client_id or not hmac.compare_digest(
            client_secret.encode(), plan.client_secret.encode()
        ):
            return None
        token = f"eyJ-access-{secrets.token_urlsafe(24)}"
        # Not scaled: the SDK replaces it 40 s early, whatever its length.
        self._access[token] = (client_id, self._ends_ns(ACCESS_TOKEN_S))
        return token, ACCESS_TOKEN_S

    def mint(self, user: str, *, life_s: float, computes: frozenset[str]) -> str:
        """Return a new database token that ends after *life_s* seconds here."""
        token = f"eyJ-canary-{secrets.token_urlsafe(24)}"
        self.minted.append(token)
        self._database[token] = DatabaseToken(
            len(self.minted), user, self._ends_ns(life_s), computes
        )
        return token

    def check(self, token: str, *, user: str, compute: str) -> tuple[int | None, str]:
        """Return the token's number and why it is refused: "" if it is good."""
        known = self._database.get(token)
        if known is None:
            return None, "unknown"
        if known.user != user:
            return known.number, "another user's"
        if compute not in known.computes:
            return known.number, "another database's"
        if self.clock.monotonic_ns() >= known.ends_ns:
            return known.number, "expired"
        return known.number, ""

    def revoke_all(self) -> int:
        """End every database token now; return how many were still good."""
        now_ns = self.clock.monotonic_ns()
        good = [t for t, known in self._database.items() if known.ends_ns > now_ns]
        for token in good:
            old = self._database[token]
            self._database[token] = DatabaseToken(
                old.number, old.user, now_ns, old.computes
            )
        return len(good)

    def _ends_ns(self, life_s: float) -> int:
        return self.clock.monotonic_ns() + int(life_s * NS_PER_S)
