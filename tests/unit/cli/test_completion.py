"""What a shell is offered, and that it never waits for it."""

import threading
import time

import pytest

from service.cli.completion import in_time
from tests.support.command import Answer, Command
from tests.support.served import Service


def offered(cdm: Command, monkeypatch: pytest.MonkeyPatch, words: str) -> list[str]:
    """As bash asks it: the last word is the one to be completed."""
    monkeypatch.setenv("_CDM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    answer: Answer = cdm()
    monkeypatch.delenv("_CDM_COMPLETE")
    assert (answer.code, answer.err) == (0, "")
    return answer.out.split()


def test_jobs_are_offered_by_their_ids(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    job = service.submit()

    assert offered(service.cdm, monkeypatch, "cdm show ") == ["latest", job]
    assert offered(service.cdm, monkeypatch, f"cdm show {job[:8]}") == [job]
    assert offered(service.cdm, monkeypatch, "cdm show --key wrong ") == []


def test_presets_and_commands_are_offered(cdm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert offered(cdm, monkeypatch, "cdm submit cifar10-u") == ["cifar10-uncond"]
    assert offered(cdm, monkeypatch, "cdm pau") == ["pause"]


def test_without_a_service_nothing_is_offered_and_nothing_said(cdm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert offered(cdm, monkeypatch, "cdm show ") == []
    assert offered(cdm, monkeypatch, "cdm show --url http://127.0.0.1:1 --key k ") == []


def test_what_takes_too_long_is_not_waited_for() -> None:
    never = threading.Event()
    begun = time.monotonic()

    assert in_time(lambda: [("job_1", str(never.wait(30)))], patience_seconds=0.05) == []

    assert time.monotonic() - begun < 10
    never.set()
