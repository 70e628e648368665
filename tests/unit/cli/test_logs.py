"""What jobs print and what happens to them, against the real application."""

import threading
from datetime import UTC, datetime

from service.cli.logs import log_pieces
from tests.support.command import Answer
from tests.support.served import MAX_ACTIVE, Service
from tests.support.waiting import wait_until
from workers.contract.keys import JobKeys


def test_logs_of_a_driver_that_wrote_none_are_those_of_the_engine(service: Service) -> None:
    job = service.submit()
    worker = service.worker(job)
    service.script.last_words = lambda: worker.outcome("stopped", at=datetime.now(UTC))
    wait_until(lambda: service.client.jobs.logs(job, source="engine").text)

    assert f"running {job}" in service.cdm("logs", job).out
    service.client.jobs.cancel(job)
    assert f"running {job}" in service.cdm("logs", job, "--follow").out


def test_each_source_is_listed_and_printed(service: Service) -> None:
    job = service.submit()
    keys = JobKeys(job).attempt(1)
    service.worker(job)
    service.store.put(keys.log_chunk("driver", 0), b"from the driver\n")
    service.store.put(keys.log_chunk("rank-0001", 0), b"from a rank\n")

    assert service.cdm("logs", job).out == "from the driver\n"
    assert service.cdm("logs", job, "--source", "rank-0001").out == "from a rank\n"
    assert service.cdm("logs", job, "--source", "rank-0007").out == ""
    sources = service.cdm("logs", job, "--sources", "--json").document
    assert sources == [{"source": "driver", "num_bytes": 16}, {"source": "rank-0001", "num_bytes": 12}]
    piece = Answer(0, service.cdm("logs", job, "--json").out, "").document
    assert (piece["attempt"], piece["source"], piece["text"]) == (1, "driver", "from the driver\n")


def test_the_last_lines_of_a_log_are_printed_and_followed_from_there(service: Service) -> None:
    job = service.submit()
    keys = JobKeys(job).attempt(1)
    worker = service.worker(job)
    service.script.last_words = lambda: worker.outcome("stopped", at=datetime.now(UTC))
    service.store.put(keys.log_chunk("driver", 0), b"one\ntwo\nthree\n")

    tail = service.cdm("logs", job, "--tail", "2")
    other = service.cdm("logs", job, "--tail", "2", "--source", "rank-0007")
    service.store.put(keys.log_chunk("driver", 14), b"four\n")
    service.client.jobs.cancel(job)
    followed = service.cdm("logs", job, "--follow", "--tail", "1")

    assert tail.out == "two\nthree\n"
    assert (other.code, other.out) == (1, "")
    assert other.err == f"error: {job} has no log of rank-0007: it has driver\n"
    assert followed.out == "four\n"
    assert "--tail" in service.cdm("logs", job, "--tail", "0").err


def test_a_log_that_is_followed_from_its_last_lines_brings_what_comes_behind_them(service: Service) -> None:
    job = service.submit()
    keys = JobKeys(job).attempt(1)
    worker = service.worker(job)
    service.script.last_words = lambda: worker.outcome("stopped", at=datetime.now(UTC))
    service.store.put(keys.log_chunk("driver", 0), b"one\ntwo\n")
    found = service.client.jobs.retrieve(job)
    pieces = log_pieces(service.client, found, follow=True, tail=1)

    first = next(pieces).text
    service.store.put(keys.log_chunk("driver", 8), b"three\n")
    second = next(pieces).text
    service.client.jobs.cancel(job)

    assert (first, second, [piece.text for piece in pieces]) == ("two\n", "three\n", [])


def test_of_a_driver_that_wrote_nothing_the_engines_last_lines_are_printed(service: Service) -> None:
    job = service.submit()
    wait_until(lambda: service.client.jobs.logs(job, source="engine").text)

    assert service.cdm("logs", job, "--tail", "1").out == f"running {job}-a1\n"


def test_a_log_in_which_nothing_is_and_one_that_never_comes_are_told_apart(service: Service) -> None:
    for _ in range(MAX_ACTIVE):
        running = service.submit()
    waiting = service.submit()
    cancelled = service.cdm("cancel", waiting, "--json").document
    service.script.said = ""

    never = service.cdm("logs", waiting, "--follow")

    assert (cancelled["state"], cancelled["attempt"]) == ("cancelled", 0)
    assert never.err == f"error: {waiting} is cancelled, was never begun, and so has no log\n"
    assert service.cdm("logs", running, "--source", "rank-0001").err.endswith("it has none so far\n")


def test_events_are_listed_and_followed_to_the_end(service: Service) -> None:
    job = service.submit()
    ending = threading.Thread(target=service.end, args=(job, "succeeded"))
    ending.start()

    followed = service.cdm("events", job, "--follow", "--json")
    ending.join()

    documents = [Answer(0, line, "").document for line in followed.out.splitlines()]
    assert [one["sequence"] for one in documents] == list(range(1, len(documents) + 1))
    assert documents[-1]["state"] == "succeeded"
    assert len(service.cdm("events", job, "--after", "1").out.splitlines()) == len(documents) - 1
