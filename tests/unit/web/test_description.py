"""What the OpenAPI document says, for people and for those who make clients from it."""

import json
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


def test_each_answer_names_the_headers_that_it_may_have(description: dict[str, Any]) -> None:
    paths, known = description["paths"], description["components"]["headers"]

    def headers(method: str, path: str, status: str) -> set[str]:
        return {*paths[path][method]["responses"][status]["headers"]}

    always = {"X-Request-Id", "RateLimit", "RateLimit-Policy"}
    assert headers("get", "/v1/jobs", "200") == always
    assert headers("get", "/v1/jobs/{job_id}", "200") == always | {"ETag"}
    assert headers("post", "/v1/jobs", "201") == always | {"ETag", "Location", "Idempotent-Replayed"}
    assert headers("post", "/v1/jobs/{job_id}/pause", "200") == always | {"ETag", "Idempotent-Replayed"}
    assert headers("get", "/v1/jobs/{job_id}/files/{name}", "206") == always | {"Accept-Ranges", "Content-Range"}
    assert headers("get", "/v1/queue", "503") == always | {"Retry-After"}
    assert headers("get", "/v1/queue", "401") == always | {"WWW-Authenticate"}
    used = {part.split('"')[0] for part in json.dumps(paths).split("#/components/headers/")[1:]}
    assert used == known.keys()


def test_each_route_says_for_which_project_it_can_be_asked_and_what_a_refusal_may_hold(
    description: dict[str, Any],
) -> None:
    operations = [
        operation
        for path, methods in description["paths"].items()
        if path.startswith("/v1/")
        for operation in methods.values()
    ]
    for operation in operations:
        assert "Cdm-Project" in {parameter["name"] for parameter in operation["parameters"]}
        said = {status: answer["description"] for status, answer in operation["responses"].items()}
        assert "`project_not_found`" in said["404"], operation["operationId"]
        assert "`validation_failed`" in said["422"], operation["operationId"]
        assert "`database_unavailable`" in said["503"], operation["operationId"]
    problem = description["components"]["schemas"]["ProblemDetails"]
    special = {"current_state", "allowed", "current_etag", "required_scope", "location"}
    assert problem["properties"].keys() - set(problem["required"]) == special


def test_what_streams_and_webhooks_send_has_schemas(description: dict[str, Any]) -> None:
    held = {}
    for stream in ("events", "logs", "metrics"):
        answer = description["paths"][f"/v1/jobs/{{job_id}}/{stream}/stream"]["get"]["responses"]["200"]
        data = answer["content"]["text/event-stream"]["schema"]["properties"]["data"]
        held[stream] = [one["$ref"].removeprefix(_REF) for one in data["contentSchema"]["anyOf"]]
    assert held == {
        "events": ["Job", "Event", "StreamEnd"],
        "logs": ["Log", "LogReset", "StreamEnd"],
        "metrics": ["MetricRow", "MetricsReset", "StreamEnd"],
    }
    message = description["webhooks"]["message"]["post"]
    assert message["requestBody"]["content"]["application/json"]["schema"] == {"$ref": _REF + "Message"}
    assert {header["name"] for header in message["parameters"]} == {
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    }
    used = {part.split('"')[0] for part in json.dumps(description).split(_REF)[1:]}
    assert used <= description["components"]["schemas"].keys()


def test_an_operation_is_called_as_its_function_is(description: dict[str, Any]) -> None:
    ids = [each["operationId"] for methods in description["paths"].values() for each in methods.values()]

    assert len(ids) == len(set(ids))
    assert {"create_job", "stream_events", "list_audit"} <= set(ids)


_REF = "#/components/schemas/"
