"""What each route of the OpenAPI document asks of a key, so that a new route is held to it, too."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from tests.support.plane import Served, served_in

ADMINISTRATION = ("/v1/projects", "/v1/api-keys", "/v1/audit")
BOTH = ("/v1/webhooks",)  # their messages tell of jobs
LINKS_TO_SEND_TO = ("/parts",)  # a GET that opens the store for writing


@pytest.fixture
async def served(tmp_path: Path, database_url: str) -> AsyncIterator[Served]:
    requests = {"per_minute": 10**6, "failures_per_minute": 10**6}
    async with served_in(tmp_path, database_url=database_url, requests=requests) as served:
        yield served


def needed(method: str, path: str) -> set[str]:
    """The scopes that a key must have."""
    if path.startswith(ADMINISTRATION):
        return {"admin"}
    if path.startswith(BOTH):
        return {"jobs:read", "jobs:write"}
    return {"jobs:read"} if method == "get" and not path.endswith(LINKS_TO_SEND_TO) else {"jobs:write"}


@pytest.mark.parametrize("scope", ["jobs:read", "jobs:write"])
async def test_a_key_of_one_scope_is_refused_wherever_more_is_needed_and_nowhere_else(
    served: Served, scope: str
) -> None:
    made = await served.api.post("/v1/api-keys", json={"scopes": [scope]})
    headers = {"Authorization": f"Bearer {made.json()['key']}"}
    paths = (await served.api.get("/openapi.json")).json()["paths"]
    operations = [(method, path) for path, methods in paths.items() if path.startswith("/v1/") for method in methods]
    assert len(operations) > 50

    async def answer(method: str, path: str) -> httpx2.Response:
        """To a request for what is not there."""
        url = path.replace("{", "").replace("}", "")
        return await served.api.request(method, url, headers=headers, json=None if method == "get" else {})

    wrong = {}
    for method, path in operations:
        status = (await answer(method, path)).status_code
        if (status == 403) == (needed(method, path) == {scope}):
            wrong[f"{method} {path}"] = status
    assert wrong == {}
