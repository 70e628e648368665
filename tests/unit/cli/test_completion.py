"""What a shell is offered, and that it never waits for it."""

import threading

from service.cli.completion import in_time
from tests.support.command import Command
from tests.support.served import Service


def test_jobs_are_offered_by_their_ids(service: Service) -> None:
    job = service.submit()

    assert service.cdm.offered("cdm show ") == ["latest", job]
    assert service.cdm.offered(f"cdm show {job[:8]}") == [job]
    assert service.cdm.offered("cdm show --key wrong ") == []


def test_presets_and_commands_are_offered(cdm: Command) -> None:
    assert cdm.offered("cdm submit cifar10-u") == ["cifar10-uncond"]
    assert cdm.offered("cdm pau") == ["pause"]


def test_without_a_service_nothing_is_offered_and_nothing_said(cdm: Command) -> None:
    assert cdm.offered("cdm show ") == []
    assert cdm.offered("cdm show --url http://127.0.0.1:1 --key k ") == []


def test_what_takes_too_long_is_not_waited_for() -> None:
    never = threading.Event()

    offered = in_time(lambda: [("job_1", str(never.wait()))], patience_seconds=0.05)

    never.set()
    assert offered == []
