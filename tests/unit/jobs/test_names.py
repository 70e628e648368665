"""What a job is called, by the copy that its service keeps of what it knows."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.jobs.lifecycle import JobState
from service.jobs.rebuild import record_of
from service.jobs.records import JobRecord
from tests.support.specs import smoke_spec
from workers.contract.keys import JobKeys
from workers.jobs.attempt import open_job
from workers.storage import open_store

KEYS = JobKeys("job_1")


def name_in(folder: Path, record: bytes | None) -> str | None:
    store = open_store(folder.as_uri())
    store.put(KEYS.spec, smoke_spec().model_dump_json().encode())
    if record is not None:
        store.put(KEYS.record, record)
    return open_job(f"{folder.as_uri()}/{KEYS.spec}", "").name


@pytest.mark.parametrize("name", ["--what's $HOME; `id`", None])
def test_a_job_is_called_what_its_service_calls_it(tmp_path: Path, name: str | None) -> None:
    now = datetime.now(UTC)
    job = JobRecord(id="job_1", name=name, spec="{}", spec_sha256="", state=JobState.QUEUED, created_at=now)

    assert name_in(tmp_path, record_of(job, [])) == name


@pytest.mark.parametrize("record", [None, b"", b"\xff", b"[]", b"{}", b'{"job": 1}', b'{"job": {"name": 5}}'])
def test_a_job_without_a_copy_of_that_kind_has_no_name(tmp_path: Path, record: bytes | None) -> None:
    assert name_in(tmp_path, record) is None
