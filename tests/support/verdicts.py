"""What evidence leads to, for tests of it: two jobs, and what becomes of them."""

from datetime import timedelta

from service.jobs.evidence import Limits, Observed, Unreachable, facts_of
from service.jobs.lifecycle import Verdict
from service.jobs.records import AttemptRecord, JobRecord
from service.settings import Retries, Watch
from tests.support.jobs import NOW, ago, attempt, job, progress

LIMITS = Limits(retries=Retries(platform=2, user=1), watch=Watch(), stop_patience=timedelta(seconds=90))
AWAY = Unreachable("timeout", since=ago(91))
SILENT = job(heard_at=ago(91), advanced_at=ago(91), progress=progress())
BEATING = job(heard_at=ago(5), advanced_at=ago(5), progress=progress())


def verdict(
    of: JobRecord, seen: Observed, *, on: AttemptRecord | None = None, limits: Limits = LIMITS
) -> Verdict | None:
    return facts_of(of, on or attempt(), seen, now=NOW, limits=limits).verdict


def decided(of: JobRecord, seen: Observed, *, on: AttemptRecord | None = None, limits: Limits = LIMITS) -> Verdict:
    """Where there is one."""
    found = verdict(of, seen, on=on, limits=limits)
    assert found
    return found
