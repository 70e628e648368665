"""What the OpenAPI document says, for people and for those who make clients from it."""

from pathlib import Path
from typing import Any

import pytest

from service.app import create_app
from tests.support.plane import settings_in


@pytest.fixture(scope="module")
def description(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("description")
    return create_app(settings_in(folder)).openapi()


@pytest.mark.parametrize("name", ["JobUpdate", "ProjectChange", "WebhookUpdate"])
def test_what_changes_something_has_no_defaults_that_a_generated_client_would_send(
    description: dict[str, Any], name: str
) -> None:
    schema = description["components"]["schemas"][name]

    assert not schema.get("required")
    assert [field for field, about in schema["properties"].items() if "default" in about] == []


@pytest.mark.parametrize("name", ["JobCreate", "ForkCreate", "DatasetCreate"])
def test_a_priority_that_is_not_given_is_not_the_same_as_any_that_is(description: dict[str, Any], name: str) -> None:
    priority = description["components"]["schemas"][name]["properties"]["priority"]

    assert "default" not in priority
    assert "unless given" in priority["description"]


def test_a_submission_is_answered_with_a_job_and_a_dry_run_with_a_plan(description: dict[str, Any]) -> None:
    answers = description["paths"]["/v1/jobs"]["post"]["responses"]

    schemas = {status: answers[status]["content"]["application/json"]["schema"] for status in ("200", "201")}
    assert schemas == {"200": {"$ref": _REF + "Plan"}, "201": {"$ref": _REF + "Job"}}


_REF = "#/components/schemas/"
