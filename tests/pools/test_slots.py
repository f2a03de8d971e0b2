"""The bookkeeping of a pool against a model that is too simple to be wrong."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from harness.errors import TargetError
from harness.postgres.pool import PoolConfig
from harness.postgres.slots import Slot, Slots

SIZE_MIN, SIZE_MAX = 1, 3
LIFE_NS = 100


class Caller:
    """A caller in the queue, and what it was told."""

    def __init__(self):
        self.is_gone = False
        self.slot = None
        self.error = None

    def hand(self, slot):
        assert (self.slot, self.error) == (None, None), "told once"
        assert not self.is_gone, "nobody hands anything to who has left"
        self.slot = slot

    def fail(self, error):
        assert (self.slot, self.error) == (None, None), "told once"
        self.error = error


class PoolMachine(RuleBasedStateMachine):
    """Any order of arrivals, returns, deaths, drains and failing connects.

    The model: a list of callers in the order they came, a set of connections that
    callers hold, and a number of openers at work.
    """

    def __init__(self):
        super().__init__()
        self.slots = Slots(PoolConfig(size_min=SIZE_MIN, size_max=SIZE_MAX))
        self.now_ns = 0
        self.queue = []
        self.out = []
        self.openers = 0
        self.probes = 0
        self.closed = set()

    # -- what the pool does around the bookkeeping --------------------------------

    def order(self):
        self.openers += self.slots.wanted()

    def discard(self, slots):
        for slot in slots:
            assert slot not in self.closed, "closed once"
            self.closed.add(slot)
            self.slots.forget(slot)
        self.order()

    def settle_queue(self):
        """Whoever was told something has been told in the order of arrival."""
        told = [caller.slot is not None for caller in self.queue]
        assert told == sorted(told, reverse=True), "first come, first served"
        for caller in list(self.queue):
            if caller.slot is not None:
                self.queue.remove(caller)
                assert caller.slot not in self.out, "one holder each"
                assert caller.slot not in self.closed
                self.out.append(caller.slot)
                yield caller.slot
            elif caller.error is not None:
                self.queue.remove(caller)

    # -- what happens ---------------------------------------------------------------

    @rule()
    def arrive(self):
        if self.slots.idle:
            assert not self.queue, "nobody waits while a connection is idle"
            slot = self.slots.idle.pop()
            assert slot not in self.out
            self.out.append(slot)
            return
        caller = Caller()
        self.slots.queue(caller)
        self.queue.append(caller)
        self.order()

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def give_up(self, data):
        caller = self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1)))
        self.slots.withdraw(caller)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), dead=st.booleans())
    def give_back(self, data, dead):
        slot = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        if dead or not self.slots.offer(slot, now_ns=self.now_ns):
            self.discard([slot])
        list(self.settle_queue())

    @precondition(lambda self: self.openers)
    @rule(stale=st.booleans(), drained_meanwhile=st.booleans())
    def connect_succeeds(self, stale, drained_meanwhile):
        self.openers -= 1
        self.probes = 0
        generation = self.slots.generation
        if drained_meanwhile and stale:
            self.discard(self.slots.drain())
        connection = SimpleNamespace(pgconn=None)
        slot = Slot(
            connection,
            generation=generation,
            opened_ns=self.now_ns,
            expires_ns=self.now_ns + LIFE_NS,
        )
        if not self.slots.adopt(slot, now_ns=self.now_ns):
            self.discard([slot])
        is_stale = generation != self.slots.generation
        assert (slot in self.closed) == is_stale, "a drain reaches who is on the way"
        self.order()
        list(self.settle_queue())

    @precondition(lambda self: self.openers)
    @rule(permanent=st.booleans())
    def connect_fails(self, permanent):
        was_probe = self.openers == 1 and self.probes == 1
        again = self.slots.refused(
            TargetError("no"), is_permanent=permanent, was_probe=was_probe
        )
        if was_probe:
            self.probes = 0
        if again:
            assert not permanent
            assert self.probes == 0, "one opener tries again, not all"
            self.probes = 1
        else:
            self.openers -= 1
        if permanent:
            assert all(caller.error for caller in self.queue), "the reason at once"
        list(self.settle_queue())

    @rule()
    def drain(self):
        self.discard(self.slots.drain())

    @rule(by_ns=st.integers(0, 2 * LIFE_NS))
    def time_passes(self, by_ns):
        self.now_ns += by_ns
        self.discard(self.slots.due(now_ns=self.now_ns))

    # -- what holds at every moment ----------------------------------------------

    @invariant()
    def cap_holds(self):
        assert len(self.slots.open) + self.slots.opening <= SIZE_MAX

    @invariant()
    def every_connection_is_somewhere(self):
        idle = set(self.slots.idle)
        assert len(idle) == len(self.slots.idle), "idle once"
        assert idle | set(self.out) == self.slots.open
        assert not idle & set(self.out)
        assert not self.slots.open & self.closed

    @invariant()
    def counts_agree(self):
        assert self.slots.opening == self.openers
        assert self.slots.waiting == len(self.queue)
        assert self.slots.in_use == len(self.out)

    @invariant()
    def nobody_waits_in_vain(self):
        assert not (self.queue and self.slots.idle)
        if self.queue:
            assert self.openers or self.out, "somebody will bring a connection"


PoolMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=50, deadline=None
)
test_bookkeeping_agrees_with_the_model = PoolMachine.TestCase
