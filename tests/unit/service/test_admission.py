"""What the queue may and may not do, over everything that can wait, run and be free."""

import ast
import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from service.jobs import admission, queueing
from service.jobs.admission import (
    Admission,
    BlockedReason,
    Capacity,
    Holding,
    Quota,
    Room,
    Waiting,
    admit_gangs,
)

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ROOM_REASONS = {BlockedReason.WAITING_CAPACITY, BlockedReason.WAITING_PREEMPTION, BlockedReason.ENGINE_FULL}
KINDS: tuple[queueing.Accelerator, ...] = ("cpu", "gpu")


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def waiting(
    job_id: str,
    workers: int = 1,
    *,
    queued: float = 0,
    priority: int = 1,
    kind: queueing.Accelerator = "gpu",
    project: str = "default",
    runtime: float | None = None,
) -> Waiting:
    return Waiting(
        job_id=job_id,
        project=project,
        priority=priority,
        queued_at=after(queued),
        accelerator=kind,
        workers=workers,
        max_runtime_seconds=runtime,
    )


def holding(
    job_id: str,
    workers: int = 1,
    *,
    started: float = -100,
    priority: int = 1,
    kind: queueing.Accelerator = "gpu",
    project: str = "default",
    placed: bool = True,
    ends: float | None = None,
    leaving: bool = False,
) -> Holding:
    return Holding(
        job_id=job_id,
        project=project,
        priority=priority,
        accelerator=kind,
        workers=workers,
        started_at=after(started),
        placed=placed,
        ends_by=None if ends is None else after(ends),
        leaving=leaving,
    )


@dataclass(frozen=True)
class World:
    """What is true; the engine's account shows of our gangs only those that have `taken` their workers."""

    waiting: tuple[Waiting, ...]
    holding: tuple[Holding, ...]
    total: Room
    foreign: Room
    taken: frozenset[str]
    quotas: dict[str, Quota]
    max_active_jobs: int

    @property
    def capacity(self) -> Capacity:
        used = {kind: sum(held.workers for held in self.of(kind) if held.job_id in self.taken) for kind in KINDS}
        free = [self.total.of(kind) - self.foreign.of(kind) - used[kind] for kind in KINDS]
        return Capacity(total=self.total, free=Room(*free))

    def of(self, kind: queueing.Accelerator) -> list[Holding]:
        return [held for held in self.holding if held.accelerator == kind]

    def look(self) -> Admission:
        return admit_gangs(
            self.waiting,
            self.holding,
            capacity=self.capacity,
            quotas=self.quotas,
            max_active_jobs=self.max_active_jobs,
            now=NOW,
        )

    def started(self, admission: Admission) -> list[Waiting]:
        return [job for job in self.waiting if job.job_id in admission.start]

    def order(self) -> list[Waiting]:
        return sorted(self.waiting, key=lambda job: (-job.priority, job.queued_at, job.job_id))

    def without(self, gone: set[str]) -> "World":
        return replace(self, holding=tuple(held for held in self.holding if held.job_id not in gone))


def look(
    queue: Sequence[Waiting],
    active: Sequence[Holding] = (),
    *,
    gpus: float = 8,
    foreign: float = 0,
    quotas: dict[str, Quota] | None = None,
    max_active_jobs: int = 100,
) -> Admission:
    taken = frozenset(held.job_id for held in active if held.placed)
    room, others = Room(8, gpus), Room(0, foreign)
    return World(tuple(queue), tuple(active), room, others, taken, quotas or {}, max_active_jobs).look()


NUMBERS = st.integers(1, 4)
PRIORITIES = st.integers(0, 2)
MOSTLY_GPU: st.SearchStrategy[queueing.Accelerator] = st.sampled_from(["gpu", "gpu", "gpu", "cpu"])
PROJECTS = st.sampled_from(["one", "other"])
SECONDS = st.integers(1, 40)
LIMITS = st.none() | st.integers(0, 9)


@st.composite
def worlds(draw: st.DrawFn, *, settled: bool = False) -> World:
    """Our gangs and others never use more than there is. In a settled world the engine's account is up to date."""
    total, foreign = Room(4, draw(st.integers(3, 9))), Room(0, draw(st.integers(0, 3)))
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
    return World(tuple(queue), tuple(active), total, foreign, frozenset(taken), quotas, draw(st.integers(1, 15)))


@settings(deadline=None)
@given(worlds())
def test_never_more_is_promised_than_there_is(world: World) -> None:
    found = world.started(world.look())

    for kind in KINDS:
        new = sum(job.workers for job in found if job.accelerator == kind)
        ours = sum(held.workers for held in world.of(kind))
        assert not new or ours + new + world.foreign.of(kind) <= world.total.of(kind)
    assert not found or len(world.holding) + len(found) <= world.max_active_jobs


@settings(deadline=None)
@given(worlds())
def test_quotas_hold(world: World) -> None:
    found = world.started(world.look())

    for project, quota in world.quotas.items():
        new = [job.workers for job in found if job.project == project]
        old = [held.workers for held in world.holding if held.project == project]
        assert not new or quota.max_workers is None or sum(new) + sum(old) <= quota.max_workers
        assert not new or quota.max_jobs is None or len(new) + len(old) <= quota.max_jobs


@settings(deadline=None)
@given(worlds())
def test_every_job_starts_or_is_told_why_not_and_where_it_stands(world: World) -> None:
    found = world.look()

    assert sorted([*found.start, *found.blocked]) == sorted(job.job_id for job in world.waiting)
    assert list(found.start) == [job.job_id for job in world.order() if job.job_id in found.start]
    places = [found.blocked[job.job_id].position for job in world.order() if job.job_id in found.blocked]
    assert places == list(range(1, len(found.blocked) + 1))
    assert all(blocked.message for blocked in found.blocked.values())


@settings(deadline=None)
@given(worlds())
def test_only_lower_priorities_that_stay_are_asked_to_leave_and_each_once(world: World) -> None:
    found = world.look()

    by_id = {held.job_id: held for held in world.holding}
    highest = max((job.priority for job in world.waiting if job.job_id in found.blocked), default=-1)
    assert len(set(found.preempt)) == len(found.preempt)
    assert all(by_id[victim].priority < highest and not by_id[victim].leaving for victim in found.preempt)


@settings(max_examples=300, deadline=None)
@given(worlds(settled=True))
def test_who_is_asked_to_leave_makes_room_and_none_could_be_spared(world: World) -> None:
    world = replace(world, quotas={})  # those who leave free their project's quota, and others of it may come first
    found = world.look()
    if not found.preempt:
        return

    gone = {held.job_id for held in world.holding if held.leaving} | set(found.preempt)
    helped = set(world.without(gone).look().start) - set(found.start)
    heads = {job for job, blocked in found.blocked.items() if blocked.reason is BlockedReason.WAITING_PREEMPTION}
    # The number of active jobs is shared by both kinds: the place may go to one of the other kind that is ahead.
    order = [job.job_id for job in world.order()]
    meant = heads | set(order[: max(order.index(head) for head in heads)])
    assert helped & meant
    for spared in found.preempt:
        assert helped & meant - set(world.without(gone - {spared}).look().start)


def test_a_place_that_was_made_for_one_kind_goes_to_whoever_is_ahead() -> None:
    active = holding("active", 1, priority=0)
    queue = (
        waiting("a-large", 2, priority=1, kind="gpu"),
        waiting("b-short", 1, priority=1, kind="gpu", runtime=1),
        waiting("c-other", 1, priority=1, kind="cpu"),
        waiting("first", 1, priority=2, kind="gpu", runtime=1),
    )
    world = World(queue, (active,), Room(cpus=4, gpus=3), Room(cpus=0, gpus=1), frozenset({"active"}), {}, 2)

    found = world.look()
    later = world.without({"active"}).look()

    assert (found.start, found.preempt) == (("first",), ("active",))
    assert found.blocked["c-other"].reason is BlockedReason.WAITING_PREEMPTION
    assert later.start == ("first", "b-short")


@settings(max_examples=300, deadline=None)
@given(worlds(settled=True))
def test_nobody_makes_the_first_in_line_start_later(world: World) -> None:
    found = world.look()
    settled = [replace(held, leaving=held.leaving or held.job_id in found.preempt) for held in world.holding]

    for kind in KINDS:
        order = [job for job in world.order() if job.accelerator == kind]
        heads = (job for job in order if job.job_id in found.blocked)
        head = next((job for job in heads if found.blocked[job.job_id].reason in ROOM_REASONS), None)
        if head is None:
            continue
        ahead, behind = order[: order.index(head)], order[order.index(head) + 1 :]
        ours = [held for held in settled if held.accelerator == kind]
        started_ahead = [as_held(job) for job in ahead if job.job_id in found.start]
        started_behind = [as_held(job) for job in behind if job.job_id in found.start]
        room = world.total.of(kind) - world.foreign.of(kind)

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


def test_priority_goes_first_then_age_then_the_id() -> None:
    queue = [waiting("c", queued=2), waiting("b", queued=1), waiting("a", queued=2), waiting("d", queued=3, priority=2)]

    assert look(queue, gpus=3).start == ("d", "b", "a")


def test_a_gang_just_admitted_is_not_promised_again_before_the_engine_shows_it() -> None:
    on_its_way = holding("new", 4, placed=False)

    assert look([waiting("a", 4)], [on_its_way], gpus=8).start == ("a",)
    assert look([waiting("a", 4)], [on_its_way], gpus=8, foreign=4).start == ()
    assert look([waiting("a", 4)], [replace(on_its_way, placed=True)], gpus=8).start == ("a",)


def test_a_gang_that_the_engine_lost_sight_of_keeps_its_room() -> None:
    """As when its workers died and are about to come back."""
    lost = [holding("lost", 4)]
    found = admit_gangs(
        [waiting("a", 5)], lost, capacity=Capacity(Room(8, 8), Room(8, 8)), quotas={}, max_active_jobs=9, now=NOW
    )

    assert found.start == ()


def test_a_job_that_is_too_large_for_the_cluster_holds_up_nobody() -> None:
    found = look([waiting("huge", 9), waiting("small", 8, queued=1)])

    assert found.start == ("small",)
    assert found.blocked["huge"].reason is BlockedReason.EXCEEDS_CLUSTER
    assert found.blocked["huge"].message == "needs 9 GPUs, all nodes together have 8"


def test_a_short_job_may_pass_if_it_is_over_in_time() -> None:
    active = [holding("running", 6, ends=100)]
    queue = [
        waiting("head", 8),
        waiting("endless", 1, queued=1),
        waiting("long", 1, queued=2, runtime=101),
        waiting("short", 1, queued=3, runtime=100),
    ]

    found = look(queue, active)

    assert found.start == ("short",)
    assert found.blocked["head"].reason is BlockedReason.WAITING_CAPACITY
    assert found.blocked["head"].message == "needs 8 GPUs, 2 free, enough by 2026-11-01 00:01:40 UTC"
    assert found.blocked["endless"].reason is found.blocked["long"].reason is BlockedReason.WAITING_TURN


def test_a_long_job_may_pass_if_it_fits_beside_the_first() -> None:
    queue = [waiting("head", 5), waiting("two", 2, queued=1), waiting("one", 1, queued=2), waiting("more", queued=3)]

    assert look(queue, [holding("running", 4, ends=100)]).start == ("two", "one")
    assert look(queue, [holding("running", 4)]).start == ("two", "one")
    assert look(queue, [holding("small", 1), holding("running", 3)]).start == ()


def test_the_other_kind_of_resource_is_another_queue() -> None:
    found = look([waiting("head", 8), waiting("cpus", 8, kind="cpu", queued=1)], [holding("running", 1)])

    assert found.start == ("cpus",)


def test_small_jobs_without_end_do_not_starve_a_large_one() -> None:
    big, first = waiting("big", 8), holding("first", 4, ends=50)
    active, queue, started_at = [first], [big], None
    for second in range(100):
        moment = after(second)
        active = [held for held in active if held.ends_by and held.ends_by > moment]
        queue.append(waiting(f"small-{second:03d}", 1, queued=second, runtime=30))
        free = Room(8, 8 - sum(held.workers for held in active))
        found = admit_gangs(
            queue, active, capacity=Capacity(Room(8, 8), free), quotas={}, max_active_jobs=99, now=moment
        )
        if "big" in found.start:
            started_at = second
            break
        active += [as_held_at(job, second) for job in queue if job.job_id in found.start]
        queue = [job for job in queue if job.job_id in found.blocked]

    assert started_at == 50
    assert len(active) < 5


def as_held_at(job: Waiting, second: int) -> Holding:
    ends = second + (job.max_runtime_seconds or 0)
    return holding(job.job_id, job.workers, started=second, ends=ends)


def test_the_lowest_and_latest_leave_first_and_no_more_than_must() -> None:
    active = [
        holding("low-old", 2, priority=0, started=-90),
        holding("low-new", 2, priority=0, started=-10),
        holding("normal", 4, priority=1, started=-5),
    ]

    assert look([waiting("urgent", 2, priority=2)], active).preempt == ("low-new",)
    assert look([waiting("urgent", 4, priority=2)], active).preempt == ("low-new", "low-old")
    assert look([waiting("urgent", 6, priority=2)], active).preempt == ("low-new", "normal")
    assert look([waiting("urgent", 2, priority=1)], active).preempt == ("low-new",)
    assert look([waiting("urgent", 6, priority=1)], active).preempt == ()
    assert look([waiting("equal", 2, priority=0)], active).preempt == ()


def test_nobody_is_asked_again_while_others_leave() -> None:
    active = [holding("leaving", 4, priority=0, leaving=True), holding("low", 4, priority=0)]

    found = look([waiting("urgent", 4, priority=2)], active)

    assert found.preempt == ()
    assert found.blocked["urgent"].reason is BlockedReason.WAITING_PREEMPTION


def test_one_leaves_where_the_account_may_hide_that_one_is_enough() -> None:
    active = [holding("new", 2, priority=0, started=-1, placed=False), holding("old", 2, priority=0)]

    # All four are in use: by both gangs, or by the old one and somebody else, while the new one waits.
    in_use = Capacity(total=Room(8, 4), free=Room(8, 0))
    found = admit_gangs(
        [waiting("urgent", 2, priority=2)], active, capacity=in_use, quotas={}, max_active_jobs=9, now=NOW
    )

    assert found.preempt == ("new",)


def test_a_quota_holds_up_its_own_project_only() -> None:
    queue = [
        waiting("large", 3, project="ours"),
        waiting("small", 1, project="ours", queued=1),
        waiting("theirs", 1, project="theirs", queued=2),
    ]

    found = look(queue, [holding("running", 2, project="ours")], quotas={"ours": Quota(max_workers=4)})

    assert found.start == ("theirs",)
    assert found.blocked["large"].reason is BlockedReason.WAITING_QUOTA
    assert found.blocked["large"].message == "project ours may have 4 workers at a time; it has 1 job with 2 workers"
    assert found.blocked["small"].reason is BlockedReason.WAITING_TURN


def test_a_job_beyond_its_whole_quota_does_not_hold_up_its_project() -> None:
    queue = [waiting("never", 5), waiting("small", 1, queued=1)]

    assert look(queue, quotas={"default": Quota(max_workers=4)}).start == ("small",)


def test_a_full_engine_lets_the_urgent_in_by_letting_one_go() -> None:
    active = [holding("low", 1, priority=0)]

    equal = look([waiting("equal", 1, priority=0)], active, max_active_jobs=1)
    urgent = look([waiting("urgent", 1, priority=2)], active, max_active_jobs=1)

    assert equal.blocked["equal"].reason is BlockedReason.ENGINE_FULL
    assert equal.preempt == ()
    assert urgent.blocked["urgent"].reason is BlockedReason.WAITING_PREEMPTION
    assert urgent.preempt == ("low",)


def test_nothing_starts_while_the_cluster_does_not_say_what_it_has() -> None:
    found = admit_gangs(
        [waiting("a", priority=2)],
        [holding("low", priority=0)],
        capacity=None,
        quotas={},
        max_active_jobs=1,
        now=NOW,
    )

    assert (found.start, found.preempt) == ((), ())
    assert found.blocked["a"].reason is BlockedReason.WAITING_CAPACITY


def test_a_cluster_without_end_takes_what_the_number_of_jobs_allows() -> None:
    endless = Room(math.inf, math.inf)
    queue = [waiting(name, 1000) for name in "abc"]

    found = admit_gangs(
        queue, [holding("x", 9)], capacity=Capacity(endless, endless), quotas={}, max_active_jobs=3, now=NOW
    )

    assert found.start == ("a", "b")
    assert found.blocked["c"].reason is BlockedReason.ENGINE_FULL


def test_it_imports_the_standard_library_only() -> None:
    for module in (admission, queueing):
        tree = ast.parse(Path(str(module.__file__)).read_text())
        names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        foreign = {name for name in names if name.partition(".")[0] not in sys.stdlib_module_names}
        assert foreign <= {"service.jobs.queueing", "service.jobs.records"}  # the latter for a type only
