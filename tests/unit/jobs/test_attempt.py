"""Who runs an attempt: one alone, even where the answer to its claim got lost."""

from datetime import UTC, datetime

import pytest

from tests.support.specs import smoke_spec
from workers.contract.records import Claim
from workers.jobs.attempt import Job, claim_attempt
from workers.jobs.failures import ClaimRefusedError
from workers.storage.memory import MemoryStore

OF_ANOTHER = Claim(host="node-1", pid=7, claimed_at=datetime(2026, 11, 1, tzinfo=UTC)).model_dump_json().encode()


class Repeating(MemoryStore):
    """The answer to each conditional write gets lost, and the client makes it again, as that of S3 does."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        super().put_if_absent(key, data)
        return super().put_if_absent(key, data)


@pytest.fixture
def job(request: pytest.FixtureRequest) -> Job:
    name = request.node.name.replace("_", "-")
    Repeating.named(name)
    return Job(f"memory://{name}", "job_1", smoke_spec())


def claimed(job: Job, *numbers: int) -> None:
    for number in numbers:
        job.open_store().put(job.keys.attempt(number).claim, OF_ANOTHER)


def test_a_claim_whose_answer_got_lost_is_known_for_ones_own(job: Job) -> None:
    assert claim_attempt(job, 1) == 1
    assert claim_attempt(job, None) == 2


def test_what_somebody_else_has_claimed_is_not_free(job: Job) -> None:
    claimed(job, 1)

    with pytest.raises(ClaimRefusedError, match=r"attempt 1 of job_1 is not free \(newest: 1\)"):
        claim_attempt(job, 1)

    assert job.open_store().get(job.keys.attempt(1).claim) == OF_ANOTHER


def test_nobody_begins_an_attempt_behind_a_later_one(job: Job) -> None:
    claimed(job, 1, 3)

    with pytest.raises(ClaimRefusedError, match=r"attempt 2 of job_1 is not free \(newest: 3\)"):
        claim_attempt(job, 2)

    assert job.open_store().list(job.keys.attempt(2).claim) == [], "it is not even asked for"
