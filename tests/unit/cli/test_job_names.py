"""Which job a word means: an id, the beginning of one, a name, or `latest`."""

import pytest

from service.client import Client
from service.jobs.views import OF_JOB
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
