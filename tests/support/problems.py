"""Problem documents, as the service answers with them."""

import httpx2


def problem(status: int, *, headers: dict[str, str] | None = None, **fields: object) -> httpx2.Response:
    """One written by hand."""
    document = {"type": "about:blank", "title": "No", "status": status, "detail": "what is wrong", "instance": "/v1"}
    document |= {"code": "some_code", "request_id": "req_7", "errors": [], **fields}
    return httpx2.Response(status, json=document, headers=headers)


def code(response: httpx2.Response) -> tuple[int, str]:
    """Status and code of one that was answered."""
    assert response.headers["Content-Type"] == "application/problem+json", response.text
    return response.status_code, response.json()["code"]
