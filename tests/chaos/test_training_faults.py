"""Training on real Ray nodes, with a real S3 server and MLflow, while each of them dies, freezes or misbehaves.

Whatever happens, the last weights, averages and moments are those of the undisturbed run to the last bit, every curve
is complete and told once, and the work that is lost is less than a checkpoint interval.
"""

import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Set
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.faulty_s3 import S3Fault
from tests.support.ray_head import RayHead, RayNode, alive_nodes, ray_node
from tests.support.set_clock import COMPILER, SettableClock
from tests.support.training_services import (
    CHECKPOINT_IMAGES,
    LOG_IMAGES,
    TOTAL_IMAGES,
    Training,
    TrainingServices,
    now,
    training_services,
)
from tests.support.waiting import wait_until
from workers.contract.keys import rank_log
from workers.contract.records import Outcome, Progress

pytestmark = pytest.mark.timeout(1200)
TRIES = range(2)
Summarize = Callable[[str], None]

_CLOCK_SECONDS = 15.0


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingServices]:
    with training_services(tmp_path_factory.mktemp("services")) as services:
        yield services


@pytest.fixture(scope="module")
def head(services: TrainingServices) -> Iterator[RayHead]:
    with services.head(num_cpus=2) as head:
        yield head


@pytest.fixture(scope="module")
def undisturbed(services: TrainingServices, head: RayHead) -> dict[str, bytes]:
    training = services.begin("undisturbed", head)
    training.end()
    assert training.points_in_mlflow() == list(range(LOG_IMAGES, TOTAL_IMAGES + 1, LOG_IMAGES))
    return training.final_state()


def moment() -> int:
    """Images after which something happens; another in every run of this test."""
    return random.randrange(CHECKPOINT_IMAGES + LOG_IMAGES, TOTAL_IMAGES - 3 * CHECKPOINT_IMAGES)  # noqa: S311 (told)


def check(training: Training, undisturbed: dict[str, bytes], *, urgent: Set[int] = frozenset()) -> None:
    assert training.final_state() == undisturbed
    points = sorted(training.points_in_mlflow())  # which sorts them by the time that workers told
    due = set(range(LOG_IMAGES, TOTAL_IMAGES + 1, LOG_IMAGES))
    assert points == sorted(due | urgent)
    assert training.checkpoints()[-1] == TOTAL_IMAGES


def account(fault: str, training: Training, *, at: int, since: float) -> str:
    """A line for the table: what was lost, and how long it took."""
    start, seconds = training.recovery(since=since)
    lost = max(0, at - start)
    assert lost <= CHECKPOINT_IMAGES + at // 10, "more than a checkpoint interval, and what was under way"
    return f"{fault}: at {at} images, {lost} lost, {seconds:.1f} s to the next step, final state equal"


@pytest.mark.parametrize("number", TRIES)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_worker_is_killed(
    services: TrainingServices,
    head: RayHead,
    undisturbed: dict[str, bytes],
    summarize: Summarize,
    rank: int,
    number: int,
) -> None:
    training = services.begin(f"worker-{rank}-{number}", head)
    at, since = training.reach(moment()), now()

    training.worker(rank).kill()
    training.end()

    check(training, undisturbed)
    summarize(account(f"SIGKILL of rank {rank}", training, at=at, since=since))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_worker_is_frozen(
    services: TrainingServices, head: RayHead, undisturbed: dict[str, bytes], summarize: Summarize, rank: int
) -> None:
    training = services.begin(f"frozen-{rank}", head, compute={"hang_seconds": 10})
    training.reach(moment())
    training.draw_a_grid()  # meanwhile the watchdog pauses, and rows come with the checkpoint right before
    at, since = training.furthest(), now()

    training.worker(rank).suspend()
    training.end()

    check(training, undisturbed)
    assert "training.hung" in training.log()
    summarize(account(f"SIGSTOP of rank {rank}, hang_seconds=10", training, at=at, since=since))


@pytest.mark.parametrize("number", TRIES)
def test_the_driver_is_killed(
    services: TrainingServices, head: RayHead, undisturbed: dict[str, bytes], summarize: Summarize, number: int
) -> None:
    training = services.begin(f"driver-{number}", head)
    at, since = training.reach(moment()), now()

    training.kill_driver()
    training.drive(head)
    training.end()

    check(training, undisturbed)
    summarize(account("SIGKILL of the driver", training, at=at, since=since))


def test_a_node_is_killed(services: TrainingServices, undisturbed: dict[str, bytes], summarize: Summarize) -> None:
    with services.head(num_cpus=0) as head, two_nodes(head) as nodes:
        training = services.begin("node", head)
        at, since = training.reach(moment()), now()

        home_of(training, nodes).raylet.kill()
        training.end()

    check(training, undisturbed)
    summarize(account("SIGKILL of a node's raylet", training, at=at, since=since))


def test_the_only_node_is_killed_and_another_one_comes(
    services: TrainingServices, undisturbed: dict[str, bytes], summarize: Summarize
) -> None:
    """Without an end to the waiting, and not in silence."""
    with services.head(num_cpus=0) as head:
        with ray_node(head, num_cpus=2) as node:
            training = services.begin("only-node", head)
            at, since = training.reach(moment()), now()
            node.raylet.kill()
            waiting = wait_until(lambda: waits(training), timeout_seconds=240.0)
        with ray_node(head, num_cpus=2):
            training.end()

    check(training, undisturbed)
    assert waiting.waiting_for == "room for 2 cpu workers: all nodes together have 0 CPUs, 0 free"
    assert (last := training.progress())
    assert last.ledger.restarting + last.ledger.waiting > 30.0
    summarize(account("SIGKILL of the only node, and another one later", training, at=at, since=since))


def test_a_first_job_waits_for_the_nodes_that_it_makes_an_autoscaler_add(
    services: TrainingServices, undisturbed: dict[str, bytes]
) -> None:
    """Ray has been asked for its workers, which is all that an autoscaler goes by."""
    with services.head(num_cpus=0) as head:
        training = services.begin("no-node-yet", head)
        waiting = wait_until(lambda: waits(training), timeout_seconds=240.0)
        with ray_node(head, num_cpus=2):
            training.end()

    check(training, undisturbed)
    assert waiting.waiting_for == "room for 2 cpu workers: all nodes together have 0 CPUs, 0 free"


@pytest.mark.parametrize("least", [1, 2])
def test_a_job_that_waits_for_nodes_leaves_within_its_grace(services: TrainingServices, least: int) -> None:
    """Nobody but Ray Train's controller is there to hear that it shall."""
    with services.head(num_cpus=0) as head:
        training = services.begin(f"no-node-ever-{least}", head, compute={"min_workers": least})
        wait_until(lambda: waits(training), timeout_seconds=240.0)
        assert training.driver
        training.driver.terminate()
        assert training.driver.wait(45) == 0, "it is killed 15 seconds after its grace of 30"

    outcome = Outcome.model_validate_json(services.store.get(training.keys.attempt(1).outcome))
    assert (outcome.status, outcome.reason) == ("stopped", None)


def test_workers_become_fewer_with_a_node_and_more_with_another(
    services: TrainingServices, summarize: Summarize, capfd: pytest.CaptureFixture[str]
) -> None:
    """What they train is the same: of every number, rows of the same images are compared as after any restart.

    Ray asks for more room once a minute, and until then the one worker that is left must have something to do.
    """
    total = 6 * TOTAL_IMAGES
    with services.head(num_cpus=0) as head, ray_node(head, num_cpus=1) as one, ray_node(head, num_cpus=1) as other:
        training = services.begin("elastic", head, duration_images=total, compute={"workers": 2, "min_workers": 1})
        at = training.reach(moment())
        next(node for node in (one, other) if node is not home_of(training, [one, other])).raylet.kill()
        training.reach(at + CHECKPOINT_IMAGES)
        assert starts_of(training)[-1][1] == 1
        with ray_node(head, num_cpus=1):
            wait_until(lambda: starts_of(training)[-1][1] == 2, timeout_seconds=300.0)
            training.end()

    starts, log = starts_of(training), training.log()
    assert [workers for _, workers in starts] == [2, 1, 2]
    (grown_at, _), due = starts[-1], set(range(LOG_IMAGES, total + 1, LOG_IMAGES))
    # A checkpoint was waited for: the one that was asked for, or one that was about to come anyway.
    assert "resize.saved" in capfd.readouterr().out
    assert "checkpoint.urgent" in log or grown_at % CHECKPOINT_IMAGES == 0
    assert set(training.points_in_mlflow()) == due | {grown_at}
    assert "verdict=diverged" not in log
    assert "verdict=within_tolerance" in log or "verdict=bit_exact" in log
    lost = at - starts[1][0]
    summarize(f"2 workers become 1 at {at} images and 2 at {grown_at}: {lost} and 0 lost, losses compared and the same")


def test_a_node_is_drained(services: TrainingServices, undisturbed: dict[str, bytes], summarize: Summarize) -> None:
    """As for a spot instance that is about to be taken away: what was done until then is kept."""
    with services.head(num_cpus=0) as head, two_nodes(head) as nodes:
        training = services.begin("drained", head)
        at, since = training.reach(moment()), now()

        drain(head, home_of(training, nodes), seconds=8)
        training.end()

    assert "checkpoint.urgent" in training.log()
    urgent = {images for images in training.checkpoints() if images % CHECKPOINT_IMAGES}
    assert urgent
    check(training, undisturbed, urgent=urgent)
    summarize(account("drain of a node", training, at=at, since=since))


def test_the_head_is_killed(services: TrainingServices, undisturbed: dict[str, bytes], summarize: Summarize) -> None:
    with ExitStack() as first_life:
        head = first_life.enter_context(services.head(num_cpus=2))
        training = services.begin("head", head)
        at, since = training.reach(moment()), now()
        training.kill_driver()  # which lives where the head does
    with services.head(num_cpus=2) as head:
        training.drive(head)
        training.end()

    check(training, undisturbed)
    summarize(account("death of the head's machine", training, at=at, since=since))


@pytest.mark.parametrize("number", TRIES)
def test_the_s3_server_is_killed_and_comes_back(
    services: TrainingServices, head: RayHead, undisturbed: dict[str, bytes], summarize: Summarize, number: int
) -> None:
    training = services.begin(f"s3-{number}", head)
    at, since = training.reach(moment()), now()

    services.s3.kill()
    wait_until(lambda: now() - since > 10.0, timeout_seconds=20.0)
    services.s3.start()
    training.end()

    check(training, undisturbed)
    summarize(f"SIGKILL of the S3 server for 10 s: at {at} images, nothing lost, final state equal")


@pytest.mark.parametrize("fault", [S3Fault.ERROR, S3Fault.BUSY, S3Fault.SLOW, S3Fault.CUT], ids=lambda one: one.name)
def test_s3_misbehaves(
    services: TrainingServices, head: RayHead, undisturbed: dict[str, bytes], summarize: Summarize, fault: S3Fault
) -> None:
    training = services.begin(f"fault-{fault.name.lower()}", head)
    at, since = training.reach(moment()), now()

    services.proxy.num_faulty, services.proxy.fault = 0, fault
    try:
        wait_until(lambda: now() - since > 15.0, timeout_seconds=30.0)
    finally:
        services.proxy.fault = S3Fault.NONE
    training.end()

    assert services.proxy.num_faulty
    check(training, undisturbed)
    summarize(
        f"S3 {fault.value} for 15 s: at {at} images, {services.proxy.num_faulty} requests met it,"
        " nothing lost, final state equal"
    )


def test_mlflow_is_killed_and_comes_back(
    services: TrainingServices, head: RayHead, undisturbed: dict[str, bytes], summarize: Summarize
) -> None:
    training = services.begin("mlflow", head)
    at = training.reach(moment())

    services.mlflow.kill()
    training.end()
    services.mlflow.start()

    check(training, undisturbed)
    summarize(f"SIGKILL of MLflow until training was over: at {at} images, nothing lost, curves complete")


@pytest.mark.skipif(COMPILER is None, reason="no C compiler to make a clock with that can be set")
@pytest.mark.parametrize("seconds", [300, -300, 7200, -7200])
def test_the_clock_is_set_wrong_and_right_again(
    services: TrainingServices,
    head: RayHead,
    undisturbed: dict[str, bytes],
    summarize: Summarize,
    tmp_path: Path,
    seconds: int,
) -> None:
    """By hours: S3 refuses what is signed at such a time."""
    clock = SettableClock.made_in(tmp_path)
    training = services.begin(f"clock{seconds}", head, environment=clock.environment)
    at, since = training.reach(moment()), now()

    clock.set(seconds)
    wait_until(lambda: now() - since > _CLOCK_SECONDS, timeout_seconds=2 * _CLOCK_SECONDS)
    clock.set(0)
    training.end()

    check(training, undisturbed)
    times = [row["time"] for row in training.rows()]
    assert any(abs(later - earlier) > 0.9 * abs(seconds) for earlier, later in pairwise(times)), "no clock was wrong"
    is_refused = "RequestTimeTooSkewed" in training.log()
    assert is_refused or abs(seconds) < 900
    refused = ", S3 refused" if is_refused else ""
    summarize(
        f"clock {seconds:+d} s for {_CLOCK_SECONDS:.0f} s{refused}: at {at} images, nothing lost, final state equal"
    )


@contextmanager
def two_nodes(head: RayHead) -> Iterator[list[RayNode]]:
    """Either of them can hold the whole job."""
    with ray_node(head, num_cpus=2) as one, ray_node(head, num_cpus=2) as other:
        yield [one, other]


def waits(training: Training) -> Progress | None:
    """What it says while it waits for room; None if it does not."""
    progress = training.progress()
    return progress if progress and progress.phase == "waiting" else None


def starts_of(training: Training) -> list[tuple[int, int]]:
    """After how many images a group of workers began, and of how many."""
    found = re.findall(r"worker.ready device=cpu images_seen=(\d+) of=(\d+) rank=0", training.log(rank_log(0)))
    return [(int(images), int(workers)) for images, workers in found]


def home_of(training: Training, nodes: list[RayNode]) -> RayNode:
    """The node that its first worker runs on."""
    raylet = training.worker(0).parent()
    return next(node for node in nodes if raylet and node.raylet.pid == raylet.pid)


def drain(head: RayHead, node: RayNode, *, seconds: int) -> None:
    """Announce that a node goes away."""
    command = [
        str(Path(sys.executable).with_name("ray")),
        "drain-node",
        f"--address={head.gcs_address}",
        f"--node-id={alive_nodes(head)[node.name]}",
        "--reason=DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message=spot instance",
        f"--deadline-remaining-seconds={seconds}",
    ]
    subprocess.run(command, env={**os.environ, **head.environment}, check=True, timeout=60)
