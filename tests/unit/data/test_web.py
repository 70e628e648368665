"""Files of the web: what is followed, what is not, and what arrives damaged; from a small server that misbehaves."""

import socket
from collections.abc import Iterator, Sequence
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.certificates import certificate_of
from tests.support.site import CONTENT, Handler, Site, a_site, redirect, whole
from workers.contract.addresses import INSIDE, Address
from workers.contract.data import NpzDataset
from workers.data import DatasetError, import_images
from workers.data.web import Web
from workers.storage.memory import MemoryStore

LOOPBACK = ip_address("127.0.0.1")
ADDRESSES = {
    "inside.test": "10.1.2.3",
    "loopback.test": "127.0.0.1",
    "metadata.test": "169.254.169.254",
    "mapped.test": "::ffff:169.254.169.254",
    "link.test": "fe80::1",
    "any.test": "0.0.0.0",  # noqa: S104 (an address that is refused)
    "multicast.test": "224.0.0.1",
}


@pytest.fixture
def site() -> Iterator[Site]:
    with a_site() as site:
        yield site


def fetched(url: str, *, is_known: bool = True, **changes: Any) -> bytes:
    """All of a file, by a worker that may go to this machine under whatever name."""

    def resolve(_host: str, _port: int) -> Sequence[Address]:
        return [LOOPBACK]

    settings: dict[str, Any] = {"max_bytes": 10**6, "networks": INSIDE, "resolve": resolve, "sleep": lambda _: None}
    with Web(**{**settings, **changes}).remote(url, is_known=is_known) as remote:
        return b"".join(remote.pieces)


def refusal(url: str, **how: Any) -> str:
    with pytest.raises(DatasetError) as refused:
        fetched(url, **how)
    return str(refused.value)


def by_name(host: str, _port: int) -> Sequence[Address]:
    return [ip_address(ADDRESSES.get(host, "127.0.0.1"))]


def test_a_file_is_fetched_from_the_address_that_was_looked_at_under_its_name(site: Site) -> None:
    site.answers["/faces.zip"] = whole()

    assert fetched(site.url("/faces.zip?download=true")) == CONTENT
    assert site.asked == [(f"site.test:{site.port}", "/faces.zip?download=true", None)]


def test_an_authority_of_the_environment_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = certificate_of("site.test", tmp_path)
    with a_site(certificate=certificate) as site:
        site.answers["/faces.zip"] = whole()
        url = f"https://site.test:{site.port}/faces.zip"

        assert "cannot reach site.test (ConnectError)" in refusal(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert fetched(url) == CONTENT


def test_redirects_are_followed_and_their_queries_are_told_to_nobody(site: Site) -> None:
    site.answers["/a"] = redirect("/b", 301)
    site.answers["/b"] = redirect(site.url("/c?X-Amz-Signature=hunter2", host="cdn.test"), 307)
    site.answers["/c"] = whole()

    assert fetched(site.url("/a")) == CONTENT
    assert [host for host, _, _ in site.asked] == [f"site.test:{site.port}"] * 2 + [f"cdn.test:{site.port}"]

    del site.answers["/c"]
    message = refusal(site.url("/a"))
    assert message.startswith(site.url("/a"))
    assert "cdn.test answered 404" in message
    assert "hunter2" not in message


@pytest.mark.parametrize("host", ADDRESSES)
def test_a_name_that_leads_inside_is_not_followed(site: Site, host: str) -> None:
    message = refusal(site.url("/x", host=host), networks=(), resolve=by_name)

    assert f"{host} leads to no public address; the workers go nowhere else" in message
    assert str(ip_address(ADDRESSES[host])) not in message
    assert site.asked == []


@pytest.mark.parametrize("host", ["metadata.test", "mapped.test", "link.test"])
def test_not_by_a_redirect_either_and_never_to_where_clouds_keep_credentials(site: Site, host: str) -> None:
    """Though the operator has opened what is private."""
    site.answers["/a"] = redirect(site.url("/latest/meta-data", host=host))

    message = refusal(site.url("/a"), resolve=by_name)

    assert f"{host} leads to no public address" in message
    assert [path for _, path, _ in site.asked] == ["/a"]


def test_one_bad_address_of_a_name_is_enough(site: Site) -> None:
    both = [LOOPBACK, ip_address("169.254.169.254")]

    assert "leads to no public address" in refusal(site.url("/x"), resolve=lambda _host, _port: both)
    assert site.asked == []


def test_a_name_of_this_network_and_one_that_nobody_knows_are_told_alike_and_take_as_long(site: Site) -> None:
    def unknown(_host: str, _port: int) -> Sequence[Address]:
        raise socket.gaierror("Name or service not known")

    url, pauses = site.url("/x", host="inside.test"), (list[float](), list[float]())

    told = [
        refusal(url, networks=(), resolve=names, sleep=slept.append)
        for names, slept in zip((by_name, unknown), pauses, strict=True)
    ]

    assert told[0] == told[1] == f"{url}: inside.test leads to no public address; the workers go nowhere else"
    assert pauses[0] == pauses[1] != []


def test_an_unprotected_redirect_is_followed_only_for_what_is_known(site: Site) -> None:
    site.answers["/a"] = redirect("/b")
    site.answers["/b"] = whole()

    assert "anybody on the way could change it; give its sha256" in refusal(site.url("/a"), is_known=False)


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("file:///etc/passwd", "no plain URL of the web"),
        ("ftp://site.test/x", "no plain URL of the web"),
        ("http://me:hunter2@site.test/x", "no plain URL of the web"),
        ("http://[", "cannot reach"),
        ("/a", "redirected more than 5 times"),
    ],
)
def test_a_redirect_that_leads_nowhere_ends_it(site: Site, location: str, words: str) -> None:
    site.answers["/a"] = redirect(location)

    message = refusal(site.url("/a"))

    assert words in message
    assert "hunter2" not in message


@pytest.mark.parametrize("status", [300, 302, 304, 308])
def test_an_answer_that_points_elsewhere_without_saying_where_is_no_file(site: Site, status: int) -> None:
    site.answers["/a"] = lambda handler: handler.answer(status, Content_Length="0")

    assert refusal(site.url("/a")) == f"{site.url('/a')}: site.test answered {status}; see the URL"


def test_what_is_cut_off_is_asked_for_from_there_on(site: Site) -> None:
    total, half = len(CONTENT), len(CONTENT) // 2

    def in_halves(handler: Handler) -> None:
        if handler.headers["Range"] is None:
            handler.answer(200, CONTENT[:half], Content_Length=str(total), ETag='"v1"')
        else:
            assert handler.headers["If-Range"] == '"v1"'
            span = f"bytes {half}-{total - 1}/{total}"
            handler.answer(206, CONTENT[half:], Content_Length=str(total - half), Content_Range=span, ETag='"v1"')

    site.answers["/a"] = in_halves

    assert fetched(site.url("/a")) == CONTENT
    assert [asked for _, _, asked in site.asked] == [None, f"bytes={half}-"]


@pytest.mark.parametrize(
    ("tag", "words"), [("", "is cut off after 5120 of 10240 bytes"), ('"v2"', "the rest is not the same any more")]
)
def test_what_is_cut_off_and_cannot_be_had_from_there_on_is_refused(site: Site, tag: str, words: str) -> None:
    headers = {"ETag": tag} if tag else {}
    site.answers["/a"] = lambda handler: handler.answer(200, CONTENT[:5120], Content_Length="10240", **headers)

    assert words in refusal(site.url("/a"))


@pytest.mark.parametrize("is_said", [True, False])
def test_what_is_too_large_is_not_fetched_to_its_end(site: Site, is_said: bool) -> None:
    headers = {"Content_Length": str(len(CONTENT))} if is_said else {}
    site.answers["/a"] = lambda handler: handler.answer(200, CONTENT, **headers)

    message = refusal(site.url("/a"), max_bytes=len(CONTENT) - 1)

    assert "is too large" in message
    assert "CDM_MAX_DOWNLOAD_BYTES" in message
    assert fetched(site.url("/a"), max_bytes=len(CONTENT)) == CONTENT


def test_a_server_that_is_busy_is_asked_again(site: Site) -> None:
    statuses = iter([503, 429])

    def busy(handler: Handler) -> None:
        status = next(statuses, 200)
        content = CONTENT if status == 200 else b""
        handler.answer(status, content, Content_Length=str(len(content)))

    site.answers["/a"] = busy

    assert fetched(site.url("/a")) == CONTENT
    assert len(site.asked) == 3


def test_a_server_that_is_not_there_is_named(site: Site) -> None:
    message = refusal("http://site.test:1/a?revision=hunter2")

    assert message == "http://site.test:1/a: cannot reach site.test (ConnectError)"


def test_images_of_the_web_are_imported_and_compared_with_their_digest(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDM_ALLOW_PRIVATE_ADDRESSES", "true")
    np.savez(tmp_path / "noise.npz", X=np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8))
    content, url = (tmp_path / "noise.npz").read_bytes(), site.url("/noise.npz", host="127.0.0.1")
    site.answers["/noise.npz"] = whole(content)
    right, wrong = (
        NpzDataset(kind="npz", path=url, sha256=digest) for digest in (sha256(content).hexdigest(), "0" * 64)
    )

    assert import_images(right, MemoryStore()).manifest.num_images == 6
    with pytest.raises(DatasetError, match=f"^{url}: is not what it should be"):
        import_images(wrong, MemoryStore())

    monkeypatch.delenv("CDM_ALLOW_PRIVATE_ADDRESSES")
    with pytest.raises(DatasetError, match="leads to no public address"):
        import_images(right, MemoryStore())
