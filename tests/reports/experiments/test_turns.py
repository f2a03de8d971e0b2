"""Runs that take turns: one works at a time, and whoever drops out stops nobody."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from harness.errors import ReportError
from harness.reports.experiments.turns import Party, TurnTaker, conduct

DEADLINE_S = 30


class Runs:
    """Runs in threads, each with the cases it has; notes who began and ended what."""

    def __init__(self, *cases):
        self.cases = cases
        self.events = []
        self.working = 0
        self.most_working = 0
        self._lock = threading.Lock()

    def run(self, index, descriptor, stop_before=None):
        turns = TurnTaker(descriptor)
        turns.announce(self.cases[index])
        holds = False
        try:
            for case in self.cases[index]:
                if holds:
                    self._leave()
                if case == stop_before:
                    return
                turns.take(case)
                holds = True
                with self._lock:
                    self.working += 1
                    self.most_working = max(self.most_working, self.working)
                    self.events.append((index, case))
            if holds:
                self._leave()
        finally:
            turns._line.close()

    def _leave(self):
        with self._lock:
            self.working -= 1

    def conduct(self, order, **stops):
        with ExitStack() as stack:
            parties = [stack.enter_context(Party()) for _ in self.cases]
            threads = [
                threading.Thread(
                    target=self.run,
                    args=(index, party.far_end.detach(), stops.get(f"run_{index}")),
                )
                for index, party in enumerate(parties)
            ]
            for thread in threads:
                thread.start()
            conduct(parties, order=order)
            for thread in threads:
                thread.join(DEADLINE_S)
                assert not thread.is_alive()


def forwards(_case, count):
    return range(count)


def test_runs_take_turns_case_by_case_in_the_order_that_was_drawn():
    runs = Runs(["a", "b", "c"], ["a", "b", "c"])
    runs.conduct(lambda case, _count: [0, 1] if case % 2 == 0 else [1, 0])
    assert runs.events == [(0, "a"), (1, "a"), (1, "b"), (0, "b"), (0, "c"), (1, "c")]
    assert runs.most_working == 1


def test_a_case_that_only_one_run_has_keeps_the_others_together():
    runs = Runs(["a", "c", "d"], ["a", "b", "c", "d"], ["a", "c", "d", "e"])
    runs.conduct(forwards)
    assert runs.most_working == 1
    for case in ("a", "c", "d"):
        places = [i for i, (_, name) in enumerate(runs.events) if name == case]
        assert places == list(range(places[0], places[0] + 3)), runs.events


def test_runs_whose_cases_come_in_another_order_all_end():
    runs = Runs(["a", "b"], ["b", "a"])
    runs.conduct(forwards)
    assert sorted(runs.events) == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]
    assert runs.most_working == 1


def test_a_run_that_dies_leaves_the_turns_to_the_others():
    runs = Runs(["a", "b", "c"], ["a", "b", "c"])
    runs.conduct(forwards, run_0="b")
    assert runs.events == [(0, "a"), (1, "a"), (1, "b"), (1, "c")]


def test_a_run_that_ends_is_noticed_though_its_child_holds_the_line_open():
    ended = threading.Event()
    with Party() as party:
        party.has_ended = ended.is_set
        ended.set()
        conduct([party], order=forwards)
        assert party.gone


def test_a_run_whose_experiment_has_ended_stops_instead_of_measuring():
    with Party() as party:
        turns = TurnTaker(party.far_end.detach())
        turns.announce(["a"])
    with pytest.raises(ReportError, match="has ended"):
        turns.take("a")
    turns._line.close()


class SlicedRuns(Runs):
    """Runs that pass on the turn between two rounds of a case, where they may.

    Args:
        slices: How many turns a case takes each run.
        knows_slices: Of each run, whether it says that it can do that.
    """

    def __init__(self, *cases, slices, knows_slices):
        super().__init__(*cases)
        self.slices, self.knows_slices = slices, knows_slices

    def run(self, index, descriptor, stop_before=None):
        del stop_before
        turns = TurnTaker(descriptor)
        if self.knows_slices[index]:
            turns.announce(self.cases[index])
        else:
            turns._say({"cases": list(self.cases[index])})
        try:
            for case in self.cases[index]:
                for number in range(self.slices[index]):
                    if number and not turns.in_slices:
                        break
                    turns.take(case)
                    self.events.append((index, case))
        finally:
            turns._line.close()


def test_a_case_is_measured_in_slices_each_round_of_them_in_an_order_of_its_own():
    runs = SlicedRuns(["a", "b"], ["a", "b"], slices=(3, 3), knows_slices=(True, True))
    runs.conduct(lambda turn, _count: [0, 1] if turn % 2 == 0 else [1, 0])
    a = [(0, "a"), (1, "a"), (1, "a"), (0, "a"), (0, "a"), (1, "a")]
    b = [(1, "b"), (0, "b"), (0, "b"), (1, "b"), (1, "b"), (0, "b")]
    assert runs.events == a + b


def test_a_run_with_fewer_slices_waits_with_its_next_case_for_the_others():
    runs = SlicedRuns(["a", "b"], ["a", "b"], slices=(1, 4), knows_slices=(True, True))
    runs.conduct(forwards)
    assert [case for _, case in runs.events] == ["a"] * 5 + ["b"] * 5


def test_beside_a_run_that_measures_in_one_go_all_do():
    """Its rounds are of one moment; those of the others must not be of many."""
    runs = SlicedRuns(["a", "b"], ["a", "b"], slices=(3, 3), knows_slices=(True, False))
    runs.conduct(forwards)
    assert runs.events == [(0, "a"), (1, "a"), (0, "b"), (1, "b")]
