"""Cursors and entity tags: what was given comes back as it was, and nothing else is taken for it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequest, PreconditionFailed
from service.web.etags import check_if_match, etag
from service.web.pagination import page_of, read_cursor, write_cursor

PRINTABLE = st.text(min_size=1).filter(str.isprintable)


@given(last=PRINTABLE)
def test_a_cursor_carries_what_the_page_ended_at(last: str) -> None:
    assert read_cursor(write_cursor("jobs", last), kind="jobs") == last


@given(cursor=st.text())
def test_what_is_no_cursor_is_refused_and_never_a_crash(cursor: str) -> None:
    last = None
    with contextlib.suppress(InvalidRequest):
        last = read_cursor(cursor, kind="jobs")

    assert last is None or write_cursor("jobs", last) == cursor


def test_a_cursor_of_another_list_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_cursor(write_cursor("jobs", "job_1"), kind="audit")
    assert [problem.pointer for problem in refused.value.problems] == ["/query/cursor"]


@given(total=st.integers(0, 30), limit=st.integers(1, 10))
def test_pages_show_everything_once_and_in_order(total: int, limit: int) -> None:
    rows = [f"{number:02d}" for number in range(total)]
    seen: list[str] = []
    last: str | None = None
    while True:
        found = [row for row in rows if last is None or row > last][: limit + 1]
        page = page_of(found, limit=limit, kind="rows", key=str)
        seen += page.rows
        assert page.has_more == (len(seen) < total)
        if page.next_cursor is None:
            break
        last = read_cursor(page.next_cursor, kind="rows")

    assert seen == rows


@pytest.mark.parametrize("header", [None, "*", '"3"', '"1", "3"', 'W/"3"', '"2", W/"3"', ' "3" '])
def test_a_change_meant_for_this_version_is_made(header: str | None) -> None:
    check_if_match(header, 3)


@pytest.mark.parametrize("header", ['"2"', '"33"', "3", 'W/"2"', "", "nonsense", '"3', '"2", W/"33"'])
def test_a_change_meant_for_another_version_is_refused_with_the_present_one(header: str) -> None:
    with pytest.raises(PreconditionFailed) as refused:
        check_if_match(header, 3)
    assert refused.value.extra == {"current_etag": etag(3)}
