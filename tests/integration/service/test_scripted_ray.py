"""What RayCluster makes of a head that misbehaves, and that the script keeps its own promises."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from service.cluster import RayCluster
from service.cluster.base import (
    AlreadySubmitted,
    ClusterUnreachable,
    Resources,
    RunStatus,
    Submission,
    SubmissionRefused,
)
from tests.support.scripted_ray import Call, CallName, Fault, ScriptedRay
from tests.support.scripted_ray_http import scripted_ray

ONE = Submission(
    submission_id="job_1-a1", entrypoint="train", metadata={"cdm_nonce": "n"}, environment={"CDM_ATTEMPT": "1"}
)
ID = ONE.submission_id
Ask = Callable[[RayCluster], Awaitable[object]]

CALLS: dict[CallName, Ask] = {
    CallName.SESSION: lambda cluster: cluster.session(),
    CallName.SUBMIT: lambda cluster: cluster.submit(ONE),
    CallName.PROBE: lambda cluster: cluster.probe(),
    CallName.FIND: lambda cluster: cluster.find(ID),
    CallName.LIST: lambda cluster: cluster.list(),
    CallName.STOP: lambda cluster: cluster.stop(ID),
    CallName.DELETE: lambda cluster: cluster.delete(ID),
    CallName.LOGS: lambda cluster: cluster.logs(ID),
    CallName.CAPACITY: lambda cluster: cluster.capacity(),
}
_SILENT = {Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER}
NEEDS_AGENT = [CallName.SUBMIT, CallName.PROBE, CallName.STOP, CallName.DELETE]


@pytest.fixture
def ray() -> Iterator[ScriptedRay]:
    with scripted_ray() as ray:
        yield ray


@pytest.fixture
async def cluster(ray: ScriptedRay) -> AsyncIterator[RayCluster]:
    cluster = RayCluster(ray.url)
    yield cluster
    await cluster.close()


@pytest.fixture
async def hasty(ray: ScriptedRay) -> AsyncIterator[RayCluster]:
    """For calls that nobody answers; others may take longer on a busy machine."""
    cluster = RayCluster(ray.url, timeout_seconds=0.3)
    yield cluster
    await cluster.close()


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "fault",
    [
        Fault.ERROR_BEFORE,
        Fault.ERROR_AFTER,
        Fault.TIMEOUT_BEFORE,
        Fault.TIMEOUT_AFTER,
        Fault.DROP_BEFORE,
        Fault.DROP_AFTER,
        Fault.GARBAGE,
    ],
)
async def test_whatever_goes_wrong_on_the_way_is_unreachable_and_nothing_else(
    ray: ScriptedRay, cluster: RayCluster, hasty: RayCluster, name: CallName, fault: Fault
) -> None:
    if name is not CallName.SUBMIT:
        await cluster.submit(ONE)
    ray.fault(fault, name)

    with pytest.raises(ClusterUnreachable):
        await CALLS[name](hasty if fault in _SILENT else cluster)

    await cluster.session()  # and the next call goes through


@pytest.mark.parametrize("name", NEEDS_AGENT)
async def test_a_head_without_an_agent_is_unreachable(ray: ScriptedRay, cluster: RayCluster, name: CallName) -> None:
    if name is not CallName.SUBMIT:
        await cluster.submit(ONE)
    ray.fault(Fault.NO_AGENT, name)

    with pytest.raises(ClusterUnreachable, match="No available agent"):
        await CALLS[name](cluster)


@pytest.mark.parametrize("fault", [Fault.ERROR_AFTER, Fault.TIMEOUT_AFTER, Fault.DROP_AFTER, Fault.GARBAGE])
async def test_repeating_a_submission_whose_answer_was_lost_starts_nothing_twice(
    ray: ScriptedRay, cluster: RayCluster, hasty: RayCluster, fault: Fault
) -> None:
    ray.fault(fault, CallName.SUBMIT)
    with pytest.raises(ClusterUnreachable):
        await (hasty if fault in _SILENT else cluster).submit(ONE)

    with pytest.raises(AlreadySubmitted):
        await cluster.submit(ONE)

    run = await cluster.find(ID)
    assert run is not None
    assert (run.metadata, ray.jobs[ID].environment) == (ONE.metadata, ONE.environment)
    assert (ray.starts, ray.overlaps) == ({ID: 1}, [])


async def test_a_driver_may_live_on_while_it_is_called_failed(ray: ScriptedRay, cluster: RayCluster) -> None:
    await cluster.submit(ONE)

    ray.false_failed(ID)
    reported = await cluster.find(ID)
    running = ray.running
    ray.clear_faults()
    truth = await cluster.find(ID)

    assert reported is not None
    assert truth is not None
    assert (reported.status, reported.error_type, running) == (RunStatus.FAILED, "JOB_SUPERVISOR_ACTOR_DIED", {ID})
    assert (truth.status, truth.error_type) == (RunStatus.RUNNING, None)


async def test_a_head_that_came_back_empty_is_another_session(ray: ScriptedRay, cluster: RayCluster) -> None:
    await cluster.submit(ONE)
    before = await cluster.session()

    ray.forget()

    assert await cluster.session() != before
    assert (await cluster.find(ID), await cluster.list(), ray.running) == (None, [], set())
    await cluster.submit(ONE)
    assert (ray.starts[ID], ray.overlaps) == (2, [])


async def test_stopping_a_pending_one_is_answered_well_and_does_nothing(ray: ScriptedRay, cluster: RayCluster) -> None:
    ray.starts_at_once = False
    await cluster.submit(ONE)

    await cluster.stop(ID)

    assert ray.jobs[ID].status is RunStatus.PENDING
    ray.start(ID)
    assert ray.jobs[ID].status is RunStatus.RUNNING


async def test_drivers_act_when_started_and_when_told_to_leave_once_each(ray: ScriptedRay, cluster: RayCluster) -> None:
    seen: list[str] = []
    ray.on_start = lambda job: seen.append(f"start {job.submission_id}")
    ray.on_stop = lambda job: seen.append(f"stop {job.submission_id}")
    ray.stops_at_once = False
    await cluster.submit(ONE)

    await cluster.stop(ID)
    await cluster.stop(ID)
    assert ray.jobs[ID].status is RunStatus.RUNNING
    ray.stopped(ID)

    assert seen == [f"start {ID}", f"stop {ID}"]
    assert ray.jobs[ID].status is RunStatus.STOPPED


async def test_a_script_decides_by_the_call_and_every_call_is_noted(ray: ScriptedRay, cluster: RayCluster) -> None:
    ray.script = lambda call: Fault.UNKNOWN if call == Call(CallName.FIND, ID) else None
    await cluster.submit(ONE)

    assert await cluster.find(ID) is None
    assert [run.submission_id for run in await cluster.list()] == [ID]
    assert ray.calls == [Call(CallName.SUBMIT, ID), Call(CallName.FIND, ID), Call(CallName.LIST)]


async def test_drivers_that_nobody_submitted_are_not_listed(ray: ScriptedRay, cluster: RayCluster) -> None:
    await cluster.submit(ONE)
    ray.foreign.append({"type": "DRIVER", "job_id": "02000000", "submission_id": None, "status": "RUNNING"})

    assert [run.submission_id for run in await cluster.list()] == [ID]


@pytest.mark.parametrize("accounts", [True, False])
async def test_capacity_is_found_with_and_without_the_heads_own_accounts(
    ray: ScriptedRay, cluster: RayCluster, accounts: bool
) -> None:
    ray.accounts, ray.total = accounts, Resources(cpus=8.0, gpus=2.0)
    await cluster.submit(ONE)
    ray.jobs[ID].holds = Resources(cpus=2.5, gpus=1.0)

    during = await cluster.capacity()
    ray.succeed(ID)
    after = await cluster.capacity()

    assert (during.total, during.free) == (Resources(cpus=8.0, gpus=2.0), Resources(cpus=5.5, gpus=1.0))
    assert after.free == after.total


async def test_nodes_that_may_come_count_as_if_they_were_there(ray: ScriptedRay) -> None:
    cluster = RayCluster(ray.url, grows_to=Resources(cpus=2.0, gpus=16.0))
    ray.total = Resources(cpus=8.0, gpus=2.0)
    await cluster.submit(ONE)
    ray.jobs[ID].holds = Resources(cpus=0.0, gpus=1.0)

    capacity = await cluster.capacity()
    await cluster.close()

    assert capacity.total == Resources(cpus=8.0, gpus=16.0), "of the CPUs more are there than were told of"
    assert capacity.free == Resources(cpus=8.0, gpus=15.0)


async def test_a_status_that_ray_does_not_have_is_no_answer(ray: ScriptedRay, cluster: RayCluster) -> None:
    ray.foreign.append({"submission_id": "other", "status": "DANCING"})

    with pytest.raises(ClusterUnreachable, match="status"):
        await cluster.list()


async def test_a_token_that_is_missing_or_wrong_is_named() -> None:
    with scripted_ray(token="right") as ray:
        cluster = RayCluster(ray.url)
        with pytest.raises(ClusterUnreachable, match=r"401.*CDM_RAY_TOKEN"):
            await cluster.session()
        await cluster.close()


class Other(BaseHTTPRequestHandler):
    """Servers that are not Ray: the status is in the path that they are mounted under."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status = int(self.path.split("/")[1])
        self.send_response(status)
        self.send_header("Location", "https://login.example/")
        self.end_headers()
        self.wfile.write(b"<html>Bad Request, does not exist, all the best, your proxy</html>")

    def do_POST(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def other() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Other) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("status", [200, 204, 302, 307, 400, 401, 403, 404, 405, 429, 502, 503])
async def test_what_a_proxy_says_is_no_word_of_rays(other: str, status: int) -> None:
    cluster = RayCluster(f"{other}/{status}")

    for ask in CALLS.values():
        with pytest.raises(ClusterUnreachable):
            await ask(cluster)
    await cluster.close()


async def test_a_redirect_says_where_to_and_what_to_mend(other: str) -> None:
    cluster = RayCluster(f"{other}/302")

    with pytest.raises(ClusterUnreachable, match=r"login\.example.*CDM_RAY_URL"):
        await cluster.session()
    await cluster.close()


async def test_a_submission_that_is_too_large_for_the_way_is_refused(other: str) -> None:
    cluster = RayCluster(f"{other}/413")

    with pytest.raises(SubmissionRefused):
        await cluster.submit(ONE)
    await cluster.close()


async def test_an_answer_that_never_ends_is_given_up() -> None:
    """A client's limit between two bytes does not see it."""

    hung_up = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        with suppress(ConnectionError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()
        hung_up.set()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        cluster = RayCluster(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout_seconds=0.3)
        with pytest.raises(ClusterUnreachable, match=r"0\.3 s"):
            await cluster.session()
        await cluster.close()
        await hung_up.wait()
