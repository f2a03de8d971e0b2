"""Answers given again as they were recorded, with their timing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from harness.agents.stub.http1 import chunk
from harness.clock import NS_PER_S
from harness.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT = 1


class ReplayScript:
    """One recorded answer.

    Args:
        recording: As `harness.agents.recording` makes it.
        speed: How much faster than recorded it is given.

    Raises:
        ConfigError: If it is no recording.
    """

    def __init__(self, recording: Mapping[str, Any], *, speed: float) -> None:
        try:
            frames = [(float(at_s), str(data)) for at_s, data in recording["frames"]]
            known = recording["format"] == FORMAT
        except (KeyError, TypeError, ValueError) as error:
            msg = f"not a recorded answer: {type(error).__name__} {error}"
            raise ConfigError(msg) from error
        if not known or not frames:
            msg = f"not a recorded answer of format {FORMAT} with frames"
            raise ConfigError(msg)
        times_ns = [round(at_s / speed * NS_PER_S) for at_s, _ in frames]
        if times_ns != sorted(times_ns) or times_ns[0] < 0:
            msg = "the times of a recorded answer go back"
            raise ConfigError(msg)
        self.ttft_ns = times_ns[0]
        self._offsets_ns = [at_ns - self.ttft_ns for at_ns in times_ns]
        self._frames = [chunk(_framed(data)) for _, data in frames]
        self._last_data = [data for _, data in frames]

    def offsets_ns(self, request_index: int) -> Sequence[int]:
        """Return when each frame is due, from the first one's time on."""
        del request_index
        return self._offsets_ns

    def head(self, *, request_id: str, model: str) -> bytes:
        """Return nothing: every frame is one of the recording."""
        del request_id, model
        return b""

    def token(self, index: int, *, request_id: str) -> bytes:
        """Return one frame."""
        del request_id
        return self._frames[index]

    def tail(self, *, request_id: str, model: str, tokens: int) -> bytes:
        """Return nothing: the recording holds its own end."""
        del request_id, model, tokens
        return b""

    def body(self, *, request_id: str, model: str, tokens: int) -> dict[str, Any]:
        """Return the finished items of the stream as one body."""
        del request_id, tokens
        output: list[Any] = []
        for data in self._last_data:
            try:
                event = json.loads(data)
            except ValueError:
                continue
            if event.get("type") == "response.output_item.done":
                output.append(event.get("item"))
        return {"id": "resp_replay", "model": model, "output": output}


def _framed(data: str) -> bytes:
    lines = (b"data: %b\n" % line for line in data.encode().split(b"\n"))
    return b"".join(lines) + b"\n"
