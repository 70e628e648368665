"""A file in the service's own store is known as such, however its place is written."""

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.storage import key_in, open_store, read_location

KEY = "jobs/job_1/samples/000000000160.png"


@given(
    head=st.sampled_from(["memory://", "MEMORY://", " memory://", "mem\nory://"]),
    parts=st.lists(st.sampled_from(["", ".", "x/..", "\t"]), max_size=3),
    tail=st.sampled_from(["", "?x=1", "#x"]),
)
def test_whatever_is_read_from_the_store_is_known_to_lie_there(head: str, parts: list[str], tail: str) -> None:
    open_store("memory://spelt").put(f"prefix/{KEY}", b"theirs")
    location = f"{head}spelt/{'/'.join([*parts, 'prefix'])}/{KEY}{tail}"
    try:
        is_read = read_location(location, most_bytes=100) == b"theirs"
    except FileNotFoundError:
        is_read = False

    known = key_in(location, "memory://spelt/prefix")

    assert known == KEY or not is_read


@pytest.mark.parametrize(
    ("location", "known"),
    [
        ("s3://bucket/prefix/jobs/a", "jobs/a"),
        ("s3://bucket/prefix", None),
        ("s3://bucket/prefixed/jobs/a", None),
        ("s3://other/prefix/jobs/a", None),
        ("/prefix/jobs/a", None),
        ("s3://bucket/prefix/../elsewhere", None),
    ],
)
def test_what_lies_elsewhere_is_let_through(location: str, known: str | None) -> None:
    assert key_in(location, "s3://bucket/prefix/") == known


def test_a_store_in_a_folder_is_known_by_path_and_by_url(tmp_path: Path) -> None:
    url, inside = f"file://{tmp_path}", tmp_path / "jobs" / "a b"

    (tmp_path.parent / "elsewhere").symlink_to(tmp_path)
    spellings = [
        *(str(inside), f"file://{quote(str(inside))}", f"{tmp_path}/x/../jobs/a b", f"/{inside}", f"file:///{inside}"),
        *(f"/proc/self/root{inside}", f"{tmp_path.parent}/elsewhere/jobs/a b"),
    ]

    assert [key_in(each, url) for each in spellings] == ["jobs/a b"] * len(spellings)
    assert key_in(str(tmp_path), url) is None


@pytest.mark.parametrize(("location", "store"), [("/srv/a", "s3://bucket/prefix"), ("s3://bucket/prefix/a", "/srv")])
def test_of_a_store_elsewhere_no_file_system_is_asked(
    monkeypatch: pytest.MonkeyPatch, location: str, store: str
) -> None:
    def silent(path: str) -> str:
        raise AssertionError(f"{path} was looked at")

    monkeypatch.setattr("os.path.realpath", silent)

    assert key_in(location, store) is None
