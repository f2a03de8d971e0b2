"""Peers for what waits on sockets."""

from __future__ import annotations

import socket

import pytest


class Peers:
    """Both ends of some connections; the test itself is the server."""

    def __init__(self):
        self.theirs, self.ours = [], []

    def connect(self, _worker=0):
        ours, theirs = socket.socketpair()
        self.theirs.append(theirs)
        self.ours.append(ours)
        return ours

    def close(self):
        for peer in (*self.theirs, *self.ours):
            peer.close()


@pytest.fixture
def echo():
    server = Peers()
    yield server
    server.close()
