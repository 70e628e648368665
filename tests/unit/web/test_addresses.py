"""URLs of users lead to the public internet or nowhere, whatever they are written as and whatever names resolve to."""

from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path
from threading import Thread

import httpx2
import pytest

from service.web.addresses import INSIDE, Address, AddressGuard, AddressRefused
from service.web.outgoing import GuardedTransport, guarded_client
from tests.support.certificates import certificate_of
from tests.support.site import a_site, whole


class Names:
    """Answers of a name server, one after the other; the last one stays."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [ip_address(one) for one in answer.split()]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.10",
        "0.0.0.0",  # noqa: S104 (not bound to, asked about)
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "192.0.2.1",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "fec0::1",
        "feff:ffff::1",
        "fd00:ec2::254",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1:a00:0:100:808:808",  # 10.0.0.1 by RFC 6052, and 8.8.8.8 at its end
        "192.0.0.192",
        "93.184.216.34 127.0.0.1",
    ],
)
async def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    with pytest.raises(AddressRefused, match="leads to no public address"):
        await AddressGuard(resolve=Names(address)).check("https://example.com/hook", project="default")


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34"])
async def test_public_addresses_are_open(address: str) -> None:
    await AddressGuard(resolve=Names(address)).check("https://example.com:8443/hook?x=1", project="default")


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f000001", "127.1", "0177.0.0.1", "[::1]", "localhost"])
async def test_other_ways_to_write_loopback_are_seen_through(host: str) -> None:
    with pytest.raises(AddressRefused):
        await AddressGuard().check(f"http://{host}/", project="default")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com",
        "//example.com/",
        "example.com",
        "https://",
        "https:///path",
        "https://user:secret@example.com/",
        "https://user@example.com/",
        "http://[::1",
        "http://example.com:99999/",
        "http://exa mple.com\x00/",
        "",
    ],
)
async def test_what_is_no_plain_web_address_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused):
        await AddressGuard(resolve=Names("93.184.216.34")).check(url, project="default")


async def test_networks_that_the_operator_opened_are_open_and_no_others() -> None:
    guard = AddressGuard(networks=[ip_network("10.1.0.0/16")], resolve=Names("10.1.2.3", "::ffff:10.1.2.3", "10.2.0.1"))

    await guard.check("http://inside.test/", project="default")
    await guard.check("http://inside.test/", project="default")
    with pytest.raises(AddressRefused):
        await guard.check("http://inside.test/", project="default")


@pytest.mark.parametrize(
    ("address", "is_open"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("10.0.0.1", True),
        ("fd00::1", True),
        ("169.254.169.254", False),
        ("::ffff:169.254.169.254", False),
        ("fd00:ec2::254", False),
        ("fd20:ce::254", False),
        ("168.63.129.16", False),
        ("192.0.0.192", False),
        ("64:ff9b:1:a00:0:100:808:808", False),
    ],
)
async def test_what_is_near_can_be_opened_but_not_where_clouds_keep_credentials(address: str, is_open: bool) -> None:
    guard = AddressGuard(networks=INSIDE, resolve=Names(address))

    if is_open:
        await guard.check("http://inside.test/", project="default")
    else:
        with pytest.raises(AddressRefused):
            await guard.check("http://inside.test/", project="default")


async def unknown(host: str, port: int) -> Sequence[Address]:
    return ()


async def test_a_name_of_this_network_and_one_that_nobody_knows_are_refused_in_the_same_words() -> None:
    told = list[str]()
    for names in (Names("10.1.2.3"), Names("93.184.216.34 127.0.0.1"), unknown):
        with pytest.raises(AddressRefused) as refused:
            await AddressGuard(resolve=names).check("http://database.internal/", project="default")
        told.append(str(refused.value))

    assert told == ["database.internal leads to no public address"] * 3


async def test_what_the_system_knows_of_a_name_that_is_none_is_kept_to_itself() -> None:
    with pytest.raises(AddressRefused, match=r"^nowhere\.invalid leads to no public address$"):
        await AddressGuard().check("http://nowhere.invalid/", project="default")


class Seen(httpx2.AsyncBaseTransport):
    """Instead of a network: remembers what would have been connected to."""

    def __init__(self, *failing: str) -> None:
        self.failing = failing
        self.hosts: list[str] = []
        self.requests: list[httpx2.Request] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.hosts.append(request.url.host)
        self.requests.append(request)
        if request.url.host in self.failing:
            raise httpx2.ConnectError("refused", request=request)
        return httpx2.Response(302, headers={"Location": "http://127.0.0.1/"})


async def test_the_connection_goes_to_the_address_that_was_looked_at_and_keeps_the_name() -> None:
    network = Seen("93.184.216.34")
    names = Names("93.184.216.34 93.184.216.35", "127.0.0.1")
    async with httpx2.AsyncClient(transport=GuardedTransport(AddressGuard(resolve=names), network)) as client:
        response = await client.post("https://example.com/hook", content=b"{}")
        assert (response.status_code, network.hosts) == (302, ["93.184.216.34", "93.184.216.35"])
        with pytest.raises(httpx2.ConnectError, match="leads to no public address"):
            await client.post("https://example.com/hook")

    assert len(network.hosts) == 2
    assert network.requests[0].headers["Host"] == "example.com"
    assert network.requests[0].extensions["sni_hostname"] == "example.com"
    assert response.request.url.host == "example.com"


async def test_an_authority_of_the_environment_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = certificate_of("hooks.test", tmp_path)
    guard = AddressGuard(networks=[ip_network("127.0.0.0/8")], resolve=Names("127.0.0.1"))

    async def answered(url: str) -> int:
        async with guarded_client(guard, timeout_seconds=5) as client:
            return (await client.get(url)).status_code

    with a_site(certificate=certificate) as site:
        site.answers["/"] = whole()
        url = f"https://hooks.test:{site.port}/"

        with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await answered(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert await answered(url) == 200


async def test_a_real_request_arrives_with_its_name_and_a_redirect_is_not_followed() -> None:
    hosts: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hosts.append(self.headers["Host"])
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        guard = AddressGuard(networks=[ip_network("127.0.0.0/8")], resolve=Names("127.0.0.1"))
        async with guarded_client(guard, timeout_seconds=5) as client:
            response = await client.get(f"http://hooks.test:{server.server_port}/")
        thread.join()

    assert (response.status_code, hosts) == (302, [f"hooks.test:{server.server_port}"])
