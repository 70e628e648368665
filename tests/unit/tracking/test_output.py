"""Everything a process prints is in its log, and still comes out where it did."""

import logging
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path

import pytest
import structlog

from tests.support.waiting import wait_until
from workers.contract.keys import JobKeys
from workers.logs import configure_logging, in_one_line
from workers.storage.memory import MemoryStore
from workers.tracking.output import shipped_output

KEYS = JobKeys("job_1").attempt(1)


def shipped(store: MemoryStore) -> str:
    return b"".join(store.get(key) for key in store.list(KEYS.log_stream("rank-0000"))).decode()


def test_every_way_of_printing_is_shipped_and_comes_out_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    store = MemoryStore()
    configure_logging()
    handler = logging._StderrHandler(logging.INFO)  # type: ignore[attr-defined] # what logging has for those who set up none
    try:
        with shipped_output(store, KEYS, "rank-0000"):
            print("printed", 1)  # noqa: T201 - what this is about
            sys.stderr.writelines(["complained\n", "twice\n"])
            structlog.get_logger().info("event", number=2)
            handler.emit(logging.makeLogRecord({"msg": "logged"}))
            sys.stdout.write("no end")
    finally:
        structlog.reset_defaults()
    out, err = capsys.readouterr()

    log = shipped(store)
    for words in ("printed 1\n", "complained\ntwice\n", "event", "number=2\n", "logged\n", "no end\n"):
        assert words in log
    assert "printed 1\n" in out
    assert "number=2\n" in out
    assert out.endswith("no end")
    assert "complained\ntwice\n" in err
    assert "logged" in err


def test_lines_are_shipped_while_the_process_runs() -> None:
    store = MemoryStore()

    with shipped_output(store, KEYS, "rank-0000", every_seconds=0.01):
        sys.stdout.write("step 1\n")
        wait_until(lambda: shipped(store) == "step 1\n")

    assert shipped(store) == "step 1\n"


def test_an_exception_ends_the_log_with_its_traceback() -> None:
    store = MemoryStore()

    def fails() -> None:
        with shipped_output(store, KEYS, "rank-0000"):
            sys.stderr.write("before it")
            raise LookupError("nothing there")

    with pytest.raises(LookupError):
        fails()

    first, second, *_, last = shipped(store).splitlines()
    assert (first, second) == ("before it", "Traceback (most recent call last):")
    assert last == "LookupError: nothing there"


def test_a_full_disk_behind_standard_output_ends_nothing_and_the_log_has_all_of_it() -> None:
    store, longer_than_its_buffer = MemoryStore(), "." * 100_000
    full = Path("/dev/full").open("w")  # noqa: SIM115 - closing it fails, too

    with redirect_stdout(full), shipped_output(store, KEYS, "rank-0000"):
        sys.stdout.write(f"step 1\n{longer_than_its_buffer}\n")
        print("step 2", flush=True)  # noqa: T201 - what this is about
    with suppress(OSError):
        full.close()

    assert shipped(store) == f"step 1\n{longer_than_its_buffer}\nstep 2\n"


def test_secrets_of_the_environment_reach_neither_the_log_nor_what_the_engine_keeps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "s3cr3t-value")
    store = MemoryStore()

    def fails() -> None:
        with shipped_output(store, KEYS, "rank-0000"):
            sys.stdout.write("the key is s3cr3t-value.\n")
            sys.stderr.write("in two parts: s3cr3t")
            sys.stderr.write("-value!\n")
            sys.stdout.write("a long line without end " + "." * 65_540 + "s3cr3t-")
            sys.stdout.write("value and more")
            raise RuntimeError("refused: s3cr3t-value")

    with pytest.raises(RuntimeError):
        fails()

    log = shipped(store)
    assert "s3cr3t" not in log
    for words in ("the key is [redacted].\n", "in two parts: [redacted]!\n", ".[redacted] and more\n"):
        assert words in log
    assert "refused: [redacted]\n" in log
    assert "the key is [redacted].\n" in capsys.readouterr().out


def test_afterwards_everything_is_as_it_was() -> None:
    before = sys.stdout, sys.stderr

    with shipped_output(MemoryStore(), KEYS, "rank-0000"):
        inside = sys.stdout
        assert sys.stdout.encoding == before[0].encoding
        assert sys.stdout.isatty() == before[0].isatty()
    inside.write("too late\n")

    assert (sys.stdout, sys.stderr) == before


def test_an_error_that_goes_on_for_pages_is_told_in_one_line() -> None:
    assert in_one_line(ValueError("no such bucket\n<html>\n<body>")) == "ValueError: no such bucket"
    assert len(in_one_line(OSError("x" * 9000))) == 500
