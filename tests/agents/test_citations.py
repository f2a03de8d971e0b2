from __future__ import annotations

import pytest

from harness.agents.answer import Block
from harness.agents.citations import citations_of

PLACE = "Volumes/main/docs/guides/a%20guide.pdf"
URL = (
    f"http://localhost:30003/ajax-api/2.0/fs/files/{PLACE}"
    "#page=4:~:text=A%20pool%20holds"
)


def cite(*notes, origin="https://dbc.example"):
    return citations_of((Block(text="x", annotations=notes),), origin=origin)


def test_platform_citation_is_told_apart_into_its_parts():
    (found,) = cite({"type": "url_citation", "title": "guide.pdf", "url": URL})
    assert found.document == "guide.pdf"
    assert found.path == "/Volumes/main/docs/guides/a guide.pdf"
    assert found.page == 4
    assert found.passage == "A pool holds"


def test_internal_host_is_replaced_by_the_workspace_and_the_passage_left_out():
    (found,) = cite({"type": "url_citation", "title": "g", "url": URL})
    wanted = f"https://dbc.example/ajax-api/2.0/fs/files/{PLACE}#page=4"
    assert found.url == wanted


def test_passage_and_url_are_in_no_repr():
    (found,) = cite({"type": "url_citation", "title": "g", "url": URL})
    assert "pool" not in repr(found)
    assert "dbc" not in repr(found)


@pytest.mark.parametrize(
    ("directive", "passage"),
    [
        ("text=start,end", "start … end"),
        ("text=before-,start,-after", "start"),
        ("text=a%2Cb", "a,b"),
        ("text=", None),
        ("other=x", None),
        ("", None),
    ],
)
def test_text_fragment_is_read_as_browsers_do(directive, passage):
    (found,) = cite({"title": "g", "url": f"https://x/y#page=1:~:{directive}"})
    assert found.passage == passage


def test_file_citation_has_its_name_only():
    (found,) = cite({"type": "file_citation", "file_id": "f1", "filename": "b.pdf"})
    assert (found.document, found.path, found.url) == ("b.pdf", None, None)


def test_citation_nested_as_in_chat_completions_is_found():
    note = {
        "type": "url_citation",
        "url_citation": {"title": "w", "url": "https://w/a"},
    }
    (found,) = cite(note)
    assert (found.document, found.url) == ("w", "https://w/a")


def test_web_page_keeps_its_host_and_loses_its_user():
    (found,) = cite({"title": "w", "url": "https://me:secret@web.example/p?q=1"})
    assert found.url == "https://web.example/p?q=1"


def test_same_place_cited_twice_by_a_block_is_one_citation():
    note = {"type": "url_citation", "title": "g", "url": URL}
    assert len(cite(note, dict(note))) == 1


@pytest.mark.parametrize(
    "note",
    [{}, {"type": "url_citation"}, {"title": 7}, {"url": []}, {"type": ["x"]}],
    ids=str,
)
def test_annotation_that_cites_nothing_is_none(note):
    assert cite(note) == ()


def test_address_that_is_none_leaves_the_title():
    (found,) = cite({"title": "g", "url": "http://[broken/x"})
    assert (found.document, found.url) == ("g", None)
