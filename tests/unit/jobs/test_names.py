"""What a job is called, and tagged with in MLflow, by the copy that its service keeps of what it knows."""

from datetime import UTC, datetime

import pytest

from service.jobs.lifecycle import JobState
from service.jobs.rebuild import record_of
from service.jobs.records import JobRecord
from workers.contract.keys import JobKeys
from workers.jobs.attempt import known_of
from workers.storage.memory import MemoryStore

KEYS = JobKeys("job_1")


def known_by(record: bytes | None) -> tuple[str | None, dict[str, str]]:
    store = MemoryStore()
    if record is not None:
        store.put(KEYS.record, record)
    return known_of(store, KEYS)


@pytest.mark.parametrize("name", ["--what's $HOME; `id`", None])
def test_a_job_is_called_what_its_service_calls_it_and_tagged_with_its_labels_and_project(name: str | None) -> None:
    job = JobRecord(
        id="job_1",
        project="vision",
        name=name,
        owner_name="tess@lab.test",
        parent_job_id="job_0",
        control_job_id="job_2",
        labels={"rate": "1e-3", "mlflow.runName": "not this", "cdm.job_id": "nor this"},
        spec="{}",
        spec_sha256="",
        state=JobState.QUEUED,
        created_at=datetime.now(UTC),
    )

    assert known_by(record_of(job, [])) == (
        name,
        {
            "cdm.project": "vision",
            "mlflow.user": "tess@lab.test",
            "cdm.parent": "job_0",
            "cdm.control": "job_2",
            "cdm.label.rate": "1e-3",
            "cdm.label.mlflow.runName": "not this",
            "cdm.label.cdm.job_id": "nor this",
        },
    )


def test_of_a_copy_that_does_not_say_who_submitted_it_there_is_the_rest() -> None:
    assert known_by(b'{"job": {"name": "mine", "project": "vision", "labels": "{}"}}') == (
        "mine",
        {"cdm.project": "vision"},
    )


@pytest.mark.parametrize("record", [None, b"", b"\xff", b"[]", b"{}", b'{"job": 1}', b'{"job": {"name": 5}}'])
def test_a_job_without_a_copy_of_that_kind_has_no_name_and_no_tags(record: bytes | None) -> None:
    assert known_by(record) == (None, {})
