"""A process that makes no steps any more is ended, and leaves word of where it stood."""

import math
import threading
from collections.abc import Iterator

import pytest

from tests.support.waiting import wait_until
from workers.contract.compute import Compute
from workers.contract.keys import JobKeys
from workers.storage.memory import MemoryStore
from workers.tracking.output import shipped_output
from workers.training import watchdog as module
from workers.training.watchdog import EXIT_HUNG, HUNG, Watchdog, stacks
from workers.training.world import collective_seconds

KEYS = JobKeys("job").attempt(1)


class End:
    """Of a process: how it ended, instead of ending."""

    def __init__(self) -> None:
        self.codes: list[int] = []

    def __call__(self, code: int) -> None:
        self.codes.append(code)


def patient(seconds: float = 10.0, *, first_seconds: float = math.inf) -> Watchdog:
    return Watchdog(seconds, lambda words: None, first_seconds=first_seconds, end=End())


def looks(watchdog: Watchdog, count: int) -> list[bool]:
    return [watchdog.is_hung(1.0) for _ in range(count)]


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_it_counts_from_the_last_step() -> None:
    watchdog = patient(3)
    watchdog.images_seen = 16
    assert looks(watchdog, 3) == [False, False, False]
    watchdog.images_seen = 32
    assert looks(watchdog, 4) == [False, False, False, True]


def test_the_first_step_may_take_longer_and_not_for_ever() -> None:
    watchdog = patient(3, first_seconds=100)
    assert looks(watchdog, 100) == [False] * 99 + [True]


def test_after_the_first_step_its_patience_is_over() -> None:
    watchdog = patient(3, first_seconds=100)
    assert not any(looks(watchdog, 90))
    watchdog.images_seen = 16
    assert looks(watchdog, 4) == [False, False, False, True]


def test_where_no_limit_is_set_the_first_piece_may_take_any_time() -> None:
    assert not any(looks(patient(3), 100))


def test_what_takes_long_by_right_does_not_count_and_what_comes_after_it_does() -> None:
    watchdog = patient(3)
    watchdog.images_seen = 16
    with watchdog.paused():
        assert not any(looks(watchdog, 100))
    assert looks(watchdog, 3) == [False, False, True]


def test_the_end_comes_with_the_stacks_in_the_log_and_on_standard_error(
    capsys: pytest.CaptureFixture[str], release: threading.Event
) -> None:
    store, end = MemoryStore(), End()

    def stuck_in_a_driver() -> None:
        release.wait(60)

    threading.Thread(target=stuck_in_a_driver, name="trainer", daemon=True).start()
    with shipped_output(store, KEYS, "rank-0001") as end_log, Watchdog(0.05, end_log, end=end) as watchdog:
        watchdog.images_seen = 320
        wait_until(lambda: end.codes)

    shipped = b"".join(store.get(key) for key in store.list(KEYS.log_stream("rank-0001"))).decode()
    printed = capsys.readouterr()
    assert end.codes == [EXIT_HUNG]
    assert "Thread trainer:\n" in shipped
    assert "stuck_in_a_driver\n" in shipped
    assert HUNG in shipped.splitlines()[-1]
    assert "no step for 0.05 s (compute.hang_seconds) after 320 images" in shipped.splitlines()[-1]
    assert printed.err == shipped
    assert f"{HUNG} " in printed.out
    assert "images_seen=320" in printed.out


def test_a_store_that_hangs_too_does_not_keep_the_process(
    monkeypatch: pytest.MonkeyPatch, release: threading.Event
) -> None:
    monkeypatch.setattr(module, "_LAST_WORDS_SECONDS", 0.05)
    end = End()

    with Watchdog(0.05, lambda words: release.wait(60), end=end) as watchdog:
        watchdog.images_seen = 320
        wait_until(lambda: end.codes)

    assert end.codes == [EXIT_HUNG]


def test_a_run_that_is_over_is_not_watched() -> None:
    with patient() as watchdog:
        assert "watchdog" in [thread.name for thread in threading.enumerate()]
        watchdog.images_seen = 320

    wait_until(lambda: "watchdog" not in [thread.name for thread in threading.enumerate()])


def test_stacks_name_threads_and_what_they_call_innermost_last() -> None:
    lines = stacks().splitlines()

    mine = lines[lines.index("Thread MainThread:") + 1 :]
    here = next(
        place
        for place, line in enumerate(mine)
        if line.endswith(", in test_stacks_name_threads_and_what_they_call_innermost_last")
    )
    assert mine[here + 1].endswith(", in stacks")


def test_the_first_step_has_at_least_the_patience_of_the_others() -> None:
    assert Compute().first_step_seconds == 1800
    assert Compute(start_seconds=60, hang_seconds=3600).first_step_seconds == 3600


@pytest.mark.parametrize(("hang_seconds", "waited"), [(5, 600), (300, 600), (3600, 7200)])
def test_watchdogs_are_ahead_of_what_processes_wait_for_each_other(hang_seconds: int, waited: int) -> None:
    assert collective_seconds(Compute(hang_seconds=hang_seconds)) == waited
