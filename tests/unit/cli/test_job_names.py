"""Which job a word means: an id, the beginning of one, a name, or `latest`."""

from collections.abc import Iterator
from typing import Any

import pytest

from service.client import Client
from service.client.jobs import Jobs
from service.jobs.views import OF_JOB, Job
from tests.support.command import Answer
from tests.support.served import Service
from tests.support.waiting import wait_until
from workers.contract.presets import PRESETS


def test_a_job_may_be_named_by_the_beginning_of_its_id_or_as_the_latest(service: Service) -> None:
    first = service.submit()
    latest = service.submit()

    def shown(name: str) -> Answer:
        return service.cdm("show", name, "--json")

    assert shown("latest").document["id"] == latest
    assert shown(first[:-1].lower()).document["id"] == first
    assert shown(first.removeprefix("job_")).document["id"] == first
    assert shown("job_").err == "error: 2 jobs begin with job_: `cdm jobs` lists them\n"
    assert shown("job_X").err == "error: no jobs begin with job_X: `cdm jobs` lists them\n"


def test_a_job_may_be_named_by_a_name_that_no_other_has(service: Service) -> None:
    first, second = service.submit("--name", "my faces"), service.submit("--name", "twin")
    long = service.submit("--name", "n" * 100)
    service.submit("--name", "twin")

    assert service.cdm("show", "my faces", "--json").document["id"] == first
    assert service.cdm("show", "n" * 100, "--json").document["id"] == long
    assert service.cdm("show", second, "--json").document["name"] == "twin"
    assert service.cdm("show", "twin").err == "error: 2 jobs are called twin: `cdm jobs` lists them\n"


def test_however_many_jobs_there_are_no_list_of_all_is_read_to_find_one(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = service.submit("--name", "mine")
    service.submit()
    asked = list[dict[str, Any]]()
    listed = Jobs.list

    def note(jobs: Jobs, **filters: Any) -> Iterator[Job]:
        asked.append(filters)
        yield from listed(jobs, **filters)  # noted when it is asked

    monkeypatch.setattr(Jobs, "list", note)

    assert [service.cdm("show", name, "--json").document["id"] for name in ("mine", job[:-1])] == [job, job]
    assert [filters.get("name") or filters.get("id_prefix") for filters in asked] == ["job_MINE", "mine", job[:-1]]
    assert service.cdm("jobs", "--name", "mine", "--json").document[0]["id"] == job


def test_that_very_many_jobs_are_called_so_is_said_without_their_number(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("connection", "id_prefixes"):
        monkeypatch.setattr(f"service.cli.{module}.ENOUGH", 3)
    for _ in range(4):
        service.submit("--name", "twin")

    assert service.cdm("show", "twin").err == "error: more than 2 jobs are called twin: `cdm jobs` lists them\n"


def test_a_service_of_an_older_release_sends_all_jobs_and_the_right_one_is_found(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = service.submit("--name", "mine")
    service.submit("--name", "other")
    listed = Jobs.list
    monkeypatch.setattr(Jobs, "list", lambda jobs, archived=None, **_: listed(jobs, archived=archived))

    assert service.cdm("show", "mine", "--json").document["id"] == job
    assert service.cdm("show", job[:-1], "--json").document["id"] == job


def test_the_latest_job_is_ones_own(service: Service) -> None:
    mine = service.submit()
    key = service.cdm("keys", "create", "another", "--json")
    with Client(service.url, key.document["key"]) as another:
        theirs = another.jobs.create(PRESETS["smoke"]).id

    assert service.cdm("show", "latest", "--json").document["id"] == mine
    assert service.cdm("show", theirs, "--json").document["id"] == theirs


def test_who_has_none_means_the_newest_of_the_project(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    job = service.submit()
    reader = service.cdm("keys", "create", "reader", "--scope", "jobs:read", "--json").document["key"]

    monkeypatch.setenv("CDM_URL", service.url)
    monkeypatch.setenv("CDM_API_KEY", reader)

    assert service.cdm("show", "latest", "--json").document["id"] == job


def test_the_latest_job_is_the_newest_that_somebody_submitted(service: Service) -> None:
    service.submit()
    job = service.submit("--evaluate-every", "160", "--control", "edm")
    control = service.client.jobs.retrieve(job).control_job_id or ""
    service.worker(job)
    service.checkpoint(job, 160)
    wait_until(lambda: any(service.client.jobs.list(labels={OF_JOB: job})))

    cancelled = service.cdm("cancel", "latest", "--json")

    assert cancelled.document["id"] == job
    assert service.client.jobs.retrieve(control).state != "cancelled"
