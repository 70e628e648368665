"""Each container killed, frozen, cut off or restarted under a running job: it succeeds once, with all it made."""

import time
from collections.abc import Callable

import pytest

from service.client import Client
from service.jobs.views import Job
from tests.support.compose import Compose
from tests.support.compose_jobs import assert_nothing_is_lost, ended
from tests.support.specs import smoke_spec
from tests.support.stack_jobs import with_a_checkpoint
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(1200)

Summarize = Callable[[str], None]

_OUTAGE_SECONDS = 30.0


@pytest.fixture
def running(client: Client) -> Job:
    """A job of two workers that has a checkpoint, and most of its way before it."""
    cadence = {"log_images": 160, "checkpoint_images": 1600}
    spec = smoke_spec(duration_images=16000, cadence=cadence)
    return with_a_checkpoint(client, client.jobs.create(spec))


@pytest.mark.parametrize("service", ["api", "postgres", "s3", "mlflow", "ray-head", "ray-worker"])
def test_a_container_that_is_killed_comes_back_and_the_job_ends_well(
    compose: Compose, client: Client, running: Job, summarize: Summarize, service: str
) -> None:
    before = compose.restarts(service)
    compose.kill(service)
    wait_until(lambda: compose.restarts(service) > before, timeout_seconds=60)

    _ends_well(compose, client, running, summarize, f"{service} killed")


@pytest.mark.parametrize("service", ["s3", "mlflow", "postgres", "api"])
def test_a_server_that_hangs_for_a_while_costs_nothing_but_time(
    compose: Compose, client: Client, running: Job, summarize: Summarize, service: str
) -> None:
    with compose.frozen(service):
        assert not compose.is_well(service)
        time.sleep(_OUTAGE_SECONDS)  # the length of the outage is the case, not a wait for something

    _ends_well(compose, client, running, summarize, f"{service} frozen for {_OUTAGE_SECONDS:.0f} s")


def test_a_node_that_is_cut_off_for_a_while_holds_nothing_up(
    compose: Compose, client: Client, running: Job, summarize: Summarize
) -> None:
    with compose.cut_off("ray-worker"):
        time.sleep(_OUTAGE_SECONDS)

    _ends_well(compose, client, running, summarize, f"a node cut off for {_OUTAGE_SECONDS:.0f} s")


def test_all_is_restarted_at_once(compose: Compose, client: Client, running: Job, summarize: Summarize) -> None:
    compose.run("restart")

    _ends_well(compose, client, running, summarize, "all restarted")


def test_all_is_removed_and_started_again(compose: Compose, client: Client, running: Job, summarize: Summarize) -> None:
    compose.run("down")
    compose.up("--scale", "ray-worker=2")

    _ends_well(compose, client, running, summarize, "all removed and started again")


def _ends_well(compose: Compose, client: Client, job: Job, summarize: Summarize, what: str) -> None:
    begin = time.monotonic()
    job = ended(client, job)
    assert_nothing_is_lost(compose, client, job)
    compose.up("--scale", "ray-worker=2")  # all are healthy again by themselves; a moment may be missing
    summarize(f"{what}: the job succeeded {time.monotonic() - begin:.0f} s later, attempt {job.attempt}")
