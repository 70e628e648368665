"""Name servers of users that do not answer hold up those who named them, and nobody else."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from service.cluster import RayCluster
from service.web.addresses import AddressGuard, AddressRefused
from tests.support.plane import eventually, served_in
from tests.support.problems import code
from tests.support.scripted_ray_http import scripted_ray

MANY = 100
OF_ONE_PROJECT = 24


class SilentNames:
    """All names that end in `.slow`: asked for, and not answered until the end of the test."""

    def __init__(self) -> None:
        self.asked = list[str]()
        self.end = threading.Event()

    async def wait_for(self, count: int) -> None:
        async def are_asked() -> bool:
            return len(self.asked) >= count

        await eventually(are_asked, what=f"{count} names are looked up")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentNames]:
    names, getaddrinfo = SilentNames(), socket.getaddrinfo

    def asked(host: str, *args: Any, **kwargs: Any) -> Any:
        if not str(host).endswith(".slow"):
            return getaddrinfo(host, *args, **kwargs)
        names.asked.append(host)
        names.end.wait(60)
        raise socket.gaierror("nobody answered")

    monkeypatch.setattr("socket.getaddrinfo", asked)
    yield names
    names.end.set()


async def test_a_hundred_urls_of_silent_names_are_refused_and_ray_is_found_by_its_name_meanwhile(
    tmp_path: Path, names: SilentNames
) -> None:
    with scripted_ray() as ray:
        cluster = RayCluster(ray.url.replace("127.0.0.1", "localhost"), timeout_seconds=10)
        async with served_in(tmp_path) as served:
            urls = [f"https://{number}.slow/hook" for number in range(MANY)]
            creating = [asyncio.create_task(served.api.post("/v1/webhooks", json={"url": url})) for url in urls]
            await names.wait_for(OF_ONE_PROJECT)

            await cluster.probe()

            answers = await asyncio.gather(*creating)
        await cluster.close()
        names.end.set()
    assert {code(answer) for answer in answers} == {(422, "validation_failed")}
    assert {answer.json()["errors"][0]["pointer"] for answer in answers} == {"/url"}
    assert len(names.asked) == OF_ONE_PROJECT


async def test_names_of_other_projects_are_looked_up_meanwhile(names: SilentNames) -> None:
    guard = AddressGuard(networks=[ip_network("127.0.0.0/8"), ip_network("::1/128")])
    looking = [
        asyncio.create_task(guard.check(f"http://{number}.slow/", project=project))
        for project in ("first", "second")
        for number in range(MANY)
    ]
    await names.wait_for(2 * OF_ONE_PROJECT)

    await guard.check("http://localhost/", project="third")

    with pytest.raises(AddressRefused, match="other names of the project are being looked up; try again"):
        await guard.check("http://localhost/", project="first")
    names.end.set()
    assert all(isinstance(each, AddressRefused) for each in await asyncio.gather(*looking, return_exceptions=True))


async def test_a_name_is_looked_up_once_at_a_time_however_often_nobody_waits_for_it_any_more(
    names: SilentNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.web.addresses._LONGEST_SECONDS", 0.05)
    guard = AddressGuard()

    for _ in range(3):
        with pytest.raises(AddressRefused, match=r"within 0.05 s where of.slow leads; try again"):
            await guard.check("http://of.slow/", project="default")

    await names.wait_for(1)
    assert names.asked == ["of.slow"]
