from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.agents.sse import FrameTooLargeError, SseParser


def parse(*chunks):
    parser = SseParser()
    events = [event.data for chunk in chunks for event in parser.feed(chunk)]
    rest = parser.close()
    return events, rest.data if rest else None


@pytest.mark.parametrize(
    ("stream", "events", "rest"),
    [
        (b"data: a\n\ndata: b\n\n", ["a", "b"], None),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"], None),
        (b"data: a\r\rdata: b\r\r", ["a", "b"], None),
        (b"data:a\n\n", ["a"], None),
        (b"data:  a\n\n", [" a"], None),
        (b"data: a\ndata: b\n\n", ["a\nb"], None),
        (b"data\n\n", [""], None),
        (b": ping\n\ndata: a\n\n", ["a"], None),
        (b"event: x\nid: 1\nretry: 5\ndata: a\n\n", ["a"], None),
        (b"event: x\n\ndata: a\n\n", ["a"], None),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"], None),
        ("data: café —\n\n".encode(), ["café —"], None),
        (b"data: \xff\n\n", ["\ufffd"], None),
        (b"\n\n\n", [], None),
        (b"", [], None),
        (b"data: a\n\ndata: b\n", ["a"], "b"),
        (b"data: [DONE]", [], "[DONE]"),
        (b"data: a\x0bb\x0c\n\n", ["a\x0bb\x0c"], None),
        ("data: a\u2028b\x85\n\n".encode(), ["a\u2028b\x85"], None),
    ],
)
def test_stream_is_cut_into_events_as_the_standard_says(stream, events, rest):
    assert parse(stream) == (events, rest)


def test_name_of_an_event_is_kept():
    (event,) = SseParser().feed(b"event: error\ndata: a\n\n")
    assert event == ("a", "error")


@given(
    lines=st.lists(
        st.sampled_from(
            ["data: é", "data:", "data: —{}", "event: x", ": ping", "id", "", ""]
        )
    ),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    data=st.data(),
)
def test_events_do_not_depend_on_how_the_bytes_were_cut(lines, ending, data):
    stream = "".join(line + ending for line in lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    pieces = [
        stream[start:end]
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
    ]
    assert parse(*pieces) == parse(stream)


@given(stream=st.binary(max_size=200))
def test_no_bytes_break_the_parser(stream):
    assert parse(*(stream[i : i + 1] for i in range(len(stream)))) == parse(stream)


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 90, b"data: x\n" * 12])
def test_frame_without_end_is_refused(piece):
    parser = SseParser(frame_bytes_max=100)
    parser.feed(piece)
    with pytest.raises(FrameTooLargeError, match="100 bytes"):
        parser.feed(piece)


def test_many_small_frames_are_not_one_large_one():
    parser = SseParser(frame_bytes_max=100)
    assert len(parser.feed(b"data: 0123456789\n\n" * 100)) == 100
