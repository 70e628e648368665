"""What the queue does, case by case."""

import ast
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from service.cluster import base
from service.cluster.base import Capacity, Resources
from service.jobs import admission, queueing
from service.jobs.admission import admit_gangs
from service.jobs.queueing import Admission, BlockedReason, Holding, Quota, Waiting
from tests.support.queue_states import NOW, QueueState, after, holding, waiting


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
    room, others = Resources(cpus=8, gpus=gpus), Resources(cpus=0, gpus=foreign)
    return QueueState(tuple(queue), tuple(active), room, others, taken, quotas or {}, max_active_jobs).look()


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
    eight = Resources(cpus=8, gpus=8)
    found = admit_gangs(
        [waiting("a", 5)], lost, capacity=Capacity(total=eight, free=eight), quotas={}, max_active_jobs=9, now=NOW
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
        free = Resources(cpus=8, gpus=8 - sum(held.workers for held in active))
        found = admit_gangs(
            queue,
            active,
            capacity=Capacity(total=Resources(cpus=8, gpus=8), free=free),
            quotas={},
            max_active_jobs=99,
            now=moment,
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
    in_use = Capacity(total=Resources(cpus=8, gpus=4), free=Resources(cpus=8, gpus=0))
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


def test_a_quota_is_used_up_to_the_last_worker_and_the_last_job() -> None:
    running, queue = [holding("running", 2)], [waiting("a", 2)]

    assert look(queue, running, quotas={"default": Quota(max_workers=4, max_jobs=2)}).start == ("a",)
    full = look(queue, running, quotas={"default": Quota(max_workers=4, max_jobs=1)}).blocked["a"].message
    assert full == "project default may have 1 active job at a time; it has 1 job with 2 workers"


def test_who_is_ahead_is_named_within_a_project_only() -> None:
    queue = [waiting("head", 8), waiting("ours", 8, queued=1), waiting("theirs", 8, project="theirs", queued=2)]

    found = look(queue, [holding("running", 1)])

    assert found.blocked["ours"].message == "head is ahead and waits for room"
    assert found.blocked["theirs"].message == "a job of another project is ahead and waits for room"
    assert [found.blocked[job.job_id].position for job in queue] == [1, 2, 3]


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


def test_nothing_starts_and_nobody_leaves_where_no_job_may_be_active() -> None:
    """So that an operator may empty the cluster."""
    found = look([waiting("urgent", 1, priority=2)], [holding("low", 1, priority=0)], max_active_jobs=0)

    assert (found.start, found.preempt) == ((), ())
    assert found.blocked["urgent"].reason is BlockedReason.ENGINE_FULL
    assert found.blocked["urgent"].message == "1 job active, and there may be 0"


def test_a_place_that_was_made_for_one_kind_goes_to_whoever_is_ahead() -> None:
    active = holding("active", 1, priority=0)
    queue = (
        waiting("a-large", 2, priority=1, kind="gpu"),
        waiting("b-short", 1, priority=1, kind="gpu", runtime=1),
        waiting("c-other", 1, priority=1, kind="cpu"),
        waiting("first", 1, priority=2, kind="gpu", runtime=1),
    )
    state = QueueState(
        queue, (active,), Resources(cpus=4, gpus=3), Resources(cpus=0, gpus=1), frozenset({"active"}), {}, 2
    )

    found = state.look()
    later = state.without({"active"}).look()

    assert (found.start, found.preempt) == (("first",), ("active",))
    assert found.blocked["c-other"].reason is BlockedReason.WAITING_PREEMPTION
    assert later.start == ("first", "b-short")


def test_a_cluster_without_end_takes_what_the_number_of_jobs_allows() -> None:
    endless = Resources(cpus=math.inf, gpus=math.inf)
    queue = [waiting(name, 1000) for name in "abc"]

    found = admit_gangs(
        queue, [holding("x", 9)], capacity=Capacity(total=endless, free=endless), quotas={}, max_active_jobs=3, now=NOW
    )

    assert found.start == ("a", "b")
    assert found.blocked["c"].reason is BlockedReason.ENGINE_FULL


def test_it_imports_the_standard_library_only() -> None:
    for module in (admission, queueing, base):
        tree = ast.parse(Path(str(module.__file__)).read_text())
        names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        foreign = {name for name in names if name.partition(".")[0] not in sys.stdlib_module_names}
        assert foreign <= {"service.jobs.queueing", "service.cluster.base"}
