"""The hub that lets functions take turns: who runs, and when something is sent."""

from __future__ import annotations

from functools import partial

import pytest

from harness.clock import SYSTEM_CLOCK
from harness.load.interleaving import WRITABLE, Hub, current_hub


def receive(hub, ours, order):
    """Wait for one byte and note it."""
    hub.wait(ours.fileno())
    order.append(ours.recv(1))


def test_a_socket_that_nobody_waits_for_wakes_nobody(echo):
    """An answer too many must not keep the thread busy while others wait."""
    first, other = echo.connect(), echo.connect()
    hub, order = Hub(SYSTEM_CLOCK), []

    def leave_one_unread():
        echo.theirs[0].send(b"xy")
        hub.wait(first.fileno())
        order.append(first.recv(1))  # one byte is left: still readable
        hub.clock.sleep(0.02)
        order.append("slept")
        echo.theirs[1].send(b"z")

    with hub.active():
        hub.run([leave_one_unread, partial(receive, hub, other, order)])
    assert order == [b"x", "slept", b"z"]
    assert hub.turns < 10


def test_a_number_used_again_is_another_socket(echo):
    first = echo.connect()
    number = first.fileno()
    hub = Hub(SYSTEM_CLOCK)
    order = []

    def connect_again():
        echo.theirs[0].send(b"x")
        hub.wait(number)
        first.close()
        second = echo.connect()
        assert second.fileno() == number
        echo.theirs[1].send(b"z")
        hub.wait(number)
        order.append(second.recv(1))

    with hub.active():
        hub.run([connect_again])
    assert order == [b"z"]


def test_a_watched_socket_that_nobody_waits_for_wakes_nobody(echo):
    """It is left alone once it has woken somebody in vain, until it is waited for."""
    watched, other = echo.connect(), echo.connect()
    hub, order = Hub(SYSTEM_CLOCK), []

    def leave_one_unread():
        hub.watch(watched.fileno())
        echo.theirs[0].send(b"xy")
        hub.wait_watched(watched.fileno())
        order.append(watched.recv(1))  # one byte is left: still readable
        hub.clock.sleep(0.02)
        hub.wait_watched(watched.fileno())
        order.append(watched.recv(1))
        echo.theirs[0].send(b"w")
        hub.wait_watched(watched.fileno())
        order.append(watched.recv(1))
        echo.theirs[1].send(b"z")

    with hub.active():
        hub.run([leave_one_unread, partial(receive, hub, other, order)])
    assert order == [b"x", b"y", b"w", b"z"]
    assert hub.turns < 12


def test_a_number_watched_again_is_another_socket(echo):
    """Whether or not the first one had been left alone before it was closed."""
    hub, order = Hub(SYSTEM_CLOCK), []

    def connect_again():
        for unread in (b"", b"u", b""):
            ours = echo.connect()
            numbers.add(ours.fileno())
            hub.watch(ours.fileno())
            echo.theirs[-1].send(b"x" + unread)
            hub.wait_watched(ours.fileno())
            order.append(ours.recv(1))
            hub.clock.sleep(0.005)  # time to be woken in vain
            ours.close()

    numbers: set[int] = set()
    with hub.active():
        hub.run([connect_again])
    assert order == [b"x", b"x", b"x"]
    assert len(numbers) == 1


def test_what_is_sent_goes_out_once_the_answers_at_hand_are_dealt_with(echo):
    ours = [echo.connect() for _ in range(3)]
    hub, order = Hub(SYSTEM_CLOCK), []

    def ask_twice(index):
        hub.watch(ours[index].fileno())
        for round_number in range(2):
            hub.exchange(ours[index].fileno(), send, index, round_number)
            order.append(("answer", round_number, ours[index].recv(1)))

    def send(index, round_number):
        order.append(("sent", round_number, index))
        echo.theirs[index].send(b"%d" % index)

    with hub.active():
        hub.run([partial(ask_twice, index) for index in range(3)])
    assert order == [
        *(("sent", 0, index) for index in range(3)),
        *(("answer", 0, b"%d" % index) for index in range(3)),
        *(("sent", 1, index) for index in range(3)),
        *(("answer", 1, b"%d" % index) for index in range(3)),
    ]


def test_what_cannot_be_sent_fails_where_it_was_asked_for(echo):
    ours = echo.connect()
    hub, found = Hub(SYSTEM_CLOCK), []

    def refuse():
        raise BrokenPipeError("closed by the other side")

    def ask():
        hub.watch(ours.fileno())
        for _ in range(2):
            with pytest.raises(BrokenPipeError, match="closed by the other side"):
                hub.exchange(ours.fileno(), refuse)
        hub.exchange(ours.fileno(), echo.theirs[0].send, b"x")
        found.append(ours.recv(1))

    with hub.active():
        hub.run([ask])
    assert found == [b"x"]


def test_an_arrival_does_not_wait_for_the_answers_that_came_with_it(echo):
    """It is sent between two answers whose workers take their time."""
    slow = [echo.connect() for _ in range(3)]
    prompt = echo.connect()
    hub, order = Hub(SYSTEM_CLOCK), []

    def answer_slowly(index):
        hub.watch(slow[index].fileno())
        hub.wait_watched(slow[index].fileno())
        end_ns = hub.clock.monotonic_ns() + 20_000_000
        while hub.clock.monotonic_ns() < end_ns:
            pass  # as an operation that computes
        order.append(index)

    def arrive():
        hub.watch(prompt.fileno())
        due_ns = hub.clock.monotonic_ns() + 10_000_000
        for peer in echo.theirs[:3]:
            peer.send(b"x")
        hub.sleep_until_ns(due_ns)
        hub.exchange(prompt.fileno(), send)

    def send():
        order.append("sent")
        echo.theirs[3].send(b"x")

    with hub.active():
        hub.run([*(partial(answer_slowly, index) for index in range(3)), arrive])
    assert order.index("sent") < 2


def test_a_wait_says_for_what_the_socket_is_ready(echo):
    ours = echo.connect()
    hub = Hub(SYSTEM_CLOCK)
    found = []
    with hub.active():
        hub.run([lambda: found.append(hub.wait(ours.fileno(), WRITABLE))])
    assert found == [WRITABLE]
    assert current_hub() is None
