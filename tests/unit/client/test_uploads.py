"""What becomes of an upload that is given up."""

from pathlib import Path

import httpx2
import pytest

from service.client import UploadFailed
from tests.support.client_answers import Time, connected
from tests.support.problems import problem

UPLOAD = {
    "id": "upl_1",
    "name": "a.zip",
    "num_bytes": 3,
    "part_bytes": 3,
    "sha256": None,
    "num_missing_parts": 1,
    "path": "upload://upl_1",
    "created_at": "2026-11-01T00:00:00Z",
    "expires_at": "2026-11-04T00:00:00Z",
    "links": {},
}
NOWHERE = {"data": [{"number": 0, "num_bytes": 3, "url": "http://127.0.0.1:1/signed"}]}


def test_that_it_could_not_be_deleted_does_not_hide_why_it_was_given_up(tmp_path: Path, time: Time) -> None:
    (tmp_path / "a.zip").write_bytes(b"zip")
    asked = list[str]()

    def serve(request: httpx2.Request) -> httpx2.Response:
        asked.append(f"{request.method} {request.url.path}")
        match request.method:
            case "DELETE":
                return problem(403)
            case "POST":
                return httpx2.Response(201, json=UPLOAD)
            case _:
                return httpx2.Response(200, json=NOWHERE)

    with connected(serve, time) as client, pytest.raises(UploadFailed, match="cannot reach the object store"):
        client.uploads.send(tmp_path / "a.zip")

    assert asked[-1] == "DELETE /v1/uploads/upl_1"
    assert len(time.pauses) == 3, "before all but the first of four tries"


def test_a_service_that_is_away_for_a_moment_does_not_end_an_upload(tmp_path: Path, time: Time) -> None:
    (tmp_path / "a.zip").write_bytes(b"zip")
    whole = {"data": [{"number": 0, "num_bytes": 3, "url": None}]}
    answers: list[Exception | httpx2.Response] = [
        *[httpx2.ConnectError("no route")] * 10,
        httpx2.Response(200, json=whole),
    ]

    def serve(request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            return httpx2.Response(201, json=UPLOAD)
        answer = answers.pop(0) if request.url.path.endswith("/parts") else httpx2.Response(200, json=UPLOAD)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with connected(serve, time) as client:
        assert client.uploads.send(tmp_path / "a.zip").id == "upl_1"

    assert not answers
