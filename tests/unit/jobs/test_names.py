"""What a job is called, by the copy that its service keeps of what it knows."""

from datetime import UTC, datetime

import pytest

from service.jobs.lifecycle import JobState
from service.jobs.rebuild import record_of
from service.jobs.records import JobRecord
from workers.contract.keys import JobKeys
from workers.jobs.attempt import name_of
from workers.storage.memory import MemoryStore

KEYS = JobKeys("job_1")


def name_by(record: bytes | None) -> str | None:
    store = MemoryStore()
    if record is not None:
        store.put(KEYS.record, record)
    return name_of(store, KEYS)


@pytest.mark.parametrize("name", ["--what's $HOME; `id`", None])
def test_a_job_is_called_what_its_service_calls_it(name: str | None) -> None:
    now = datetime.now(UTC)
    job = JobRecord(id="job_1", name=name, spec="{}", spec_sha256="", state=JobState.QUEUED, created_at=now)

    assert name_by(record_of(job, [])) == name


@pytest.mark.parametrize("record", [None, b"", b"\xff", b"[]", b"{}", b'{"job": 1}', b'{"job": {"name": 5}}'])
def test_a_job_without_a_copy_of_that_kind_has_no_name(record: bytes | None) -> None:
    assert name_by(record) is None
