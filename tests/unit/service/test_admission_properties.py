"""What the queue may and may not do, over everything that can wait, run and be free."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from service.cluster.base import Resources
from service.jobs import queueing
from service.jobs.queueing import BlockedReason, Holding, Quota, Waiting
from tests.support.queue_states import KINDS, NOW, QueueState, holding, waiting

ROOM_REASONS = {BlockedReason.WAITING_CAPACITY, BlockedReason.WAITING_PREEMPTION, BlockedReason.ENGINE_FULL}

NUMBERS = st.integers(1, 4)
PRIORITIES = st.integers(0, 2)
MOSTLY_GPU: st.SearchStrategy[queueing.Accelerator] = st.sampled_from(["gpu", "gpu", "gpu", "cpu"])
PROJECTS = st.sampled_from(["one", "other"])
SECONDS = st.integers(1, 40)
LIMITS = st.none() | st.integers(0, 9)


@st.composite
def queue_states(draw: st.DrawFn, *, settled: bool = False) -> QueueState:
    """Our gangs and others never use more than there is. In a settled state the engine's account is up to date."""
    total = Resources(cpus=4, gpus=draw(st.integers(3, 9)))
    foreign = Resources(cpus=0, gpus=draw(st.integers(0, 3)))
    active: list[Holding] = []
    taken: set[str] = set()
    for index in range(draw(st.integers(0, 5))):
        held = holding(
            f"active-{index}",
            draw(NUMBERS),
            started=-draw(SECONDS),
            priority=draw(PRIORITIES),
            kind=draw(MOSTLY_GPU),
            project=draw(PROJECTS),
            ends=draw(st.none() | st.integers(-5, 40)),
            leaving=draw(st.booleans()),
        )
        same = sum(other.workers for other in active if other.accelerator == held.accelerator)
        if foreign.of(held.accelerator) + same + held.workers > total.of(held.accelerator):
            continue
        is_taken = settled or draw(st.booleans())
        placed = settled or (is_taken and draw(st.booleans()))
        active.append(replace(held, placed=placed))
        taken |= {held.job_id} if is_taken else set()
    queue = [
        waiting(
            f"waiting-{index}",
            draw(NUMBERS),
            queued=-draw(SECONDS),
            priority=draw(PRIORITIES),
            kind=draw(MOSTLY_GPU),
            project=draw(PROJECTS),
            runtime=draw(st.none() | SECONDS),
        )
        for index in range(draw(st.integers(0, 8)))
    ]
    quotas = draw(st.just({}) | st.dictionaries(PROJECTS, st.builds(Quota, LIMITS, LIMITS)))
    return QueueState(tuple(queue), tuple(active), total, foreign, frozenset(taken), quotas, draw(st.integers(1, 15)))


@settings(deadline=None)
@given(queue_states())
def test_never_more_is_promised_than_there_is(state: QueueState) -> None:
    found = state.started(state.look())

    for kind in KINDS:
        new = sum(job.workers for job in found if job.accelerator == kind)
        ours = sum(held.workers for held in state.of(kind))
        assert not new or ours + new + state.foreign.of(kind) <= state.total.of(kind)
    assert not found or len(state.holding) + len(found) <= state.max_active_jobs


@settings(deadline=None)
@given(queue_states())
def test_quotas_hold(state: QueueState) -> None:
    found = state.started(state.look())

    for project, quota in state.quotas.items():
        new = [job.workers for job in found if job.project == project]
        old = [held.workers for held in state.holding if held.project == project]
        assert not new or quota.max_workers is None or sum(new) + sum(old) <= quota.max_workers
        assert not new or quota.max_jobs is None or len(new) + len(old) <= quota.max_jobs


@settings(deadline=None)
@given(queue_states())
def test_every_job_starts_or_is_told_why_not_and_where_it_stands(state: QueueState) -> None:
    found = state.look()

    assert sorted([*found.start, *found.blocked]) == sorted(job.job_id for job in state.waiting)
    assert list(found.start) == [job.job_id for job in state.order() if job.job_id in found.start]
    places = [found.blocked[job.job_id].position for job in state.order() if job.job_id in found.blocked]
    assert places == list(range(1, len(found.blocked) + 1))
    assert all(blocked.message for blocked in found.blocked.values())


@settings(deadline=None)
@given(queue_states())
def test_only_lower_priorities_that_stay_are_asked_to_leave_and_each_once(state: QueueState) -> None:
    found = state.look()

    by_id = {held.job_id: held for held in state.holding}
    highest = max((job.priority for job in state.waiting if job.job_id in found.blocked), default=-1)
    assert len(set(found.preempt)) == len(found.preempt)
    assert all(by_id[victim].priority < highest and not by_id[victim].leaving for victim in found.preempt)


@settings(max_examples=300, deadline=None)
@given(queue_states(settled=True))
def test_who_is_asked_to_leave_makes_room_and_none_could_be_spared(state: QueueState) -> None:
    state = replace(state, quotas={})  # those who leave free their project's quota, and others of it may come first
    found = state.look()
    if not found.preempt:
        return

    gone = {held.job_id for held in state.holding if held.leaving} | set(found.preempt)
    helped = set(state.without(gone).look().start) - set(found.start)
    heads = {job for job, blocked in found.blocked.items() if blocked.reason is BlockedReason.WAITING_PREEMPTION}
    # The number of active jobs is shared by both kinds: the place may go to one of the other kind that is ahead.
    order = [job.job_id for job in state.order()]
    meant = heads | set(order[: max(order.index(head) for head in heads)])
    assert helped & meant
    for spared in found.preempt:
        assert helped & meant - set(state.without(gone - {spared}).look().start)


@settings(max_examples=300, deadline=None)
@given(queue_states(settled=True))
def test_nobody_makes_the_first_in_line_start_later(state: QueueState) -> None:
    found = state.look()
    settled = [replace(held, leaving=held.leaving or held.job_id in found.preempt) for held in state.holding]

    for kind in KINDS:
        order = [job for job in state.order() if job.accelerator == kind]
        heads = (job for job in order if job.job_id in found.blocked)
        head = next((job for job in heads if found.blocked[job.job_id].reason in ROOM_REASONS), None)
        if head is None:
            continue
        ahead, behind = order[: order.index(head)], order[order.index(head) + 1 :]
        ours = [held for held in settled if held.accelerator == kind]
        started_ahead = [as_held(job) for job in ahead if job.job_id in found.start]
        started_behind = [as_held(job) for job in behind if job.job_id in found.start]
        room = state.total.of(kind) - state.foreign.of(kind)

        before = estimate(head, [*ours, *started_ahead], room=room)
        assert estimate(head, [*ours, *started_ahead, *started_behind], room=room) <= before
        if math.isinf(before):  # whoever ends first, in whatever order
            stays = sum(job.workers for job in started_behind)
            for ended in subsets([*ours, *started_ahead]):
                left = room - sum(held.workers for held in [*ours, *started_ahead] if held not in ended)
                assert left < head.workers or left - stays >= head.workers


def as_held(job: Waiting) -> Holding:
    ends = job.max_runtime_seconds
    return holding(job.job_id, job.workers, kind=job.accelerator, started=0, ends=ends)


def estimate(head: Waiting, active: Sequence[Holding], *, room: float) -> float:
    """When there is room for the first time, in seconds."""

    def end(held: Holding) -> float:
        if held.leaving:
            return 0.0
        return math.inf if held.ends_by is None else max(0.0, (held.ends_by - NOW).total_seconds())

    for moment in sorted({0.0, *map(end, active)} - {math.inf}):
        if head.workers <= room - sum(held.workers for held in active if end(held) > moment):
            return moment
    return math.inf


def subsets(active: Sequence[Holding]) -> list[tuple[Holding, ...]]:
    few = active[:7]
    return [chosen for size in range(len(few) + 1) for chosen in itertools.combinations(few, size)]
