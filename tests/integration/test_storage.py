"""What every object store promises, asked of each of them: memory, a folder, and S3 on two real servers."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from uuid import uuid4

import boto3
import httpx2
import pytest
from moto.server import ThreadedMotoServer

from tests.support.faulty_s3 import S3Fault, faulty_proxy
from tests.support.seaweed import OUTSIDER, STRANGER, S3Server, seaweed
from workers.storage import ObjectStore, open_store

BACKENDS = ["memory", "folder", "moto", "seaweed"]


@pytest.fixture(scope="module")
def moto_server() -> Iterator[S3Server]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    address = S3Server(f"http://{host}:{port}", "tester", "secret", "tests")
    client = boto3.client(
        "s3",
        endpoint_url=address.endpoint,
        region_name="us-east-1",
        aws_access_key_id=address.access_key,
        aws_secret_access_key=address.secret_key,
    )
    client.create_bucket(Bucket=address.bucket)
    client.close()
    yield address
    server.stop()


@pytest.fixture(scope="module")
def seaweed_server() -> Iterator[S3Server]:
    with seaweed() as server:
        yield server


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(backend: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """An empty store; on a server, a prefix of its bucket that nobody used before."""
    match backend:
        case "memory":
            return open_store(f"memory://{uuid4()}")
        case "folder":
            return open_store(f"file://{tmp_path}/store")
        case server:
            address = request.getfixturevalue(f"{server}_server")
            for name, value in address.environment.items():
                monkeypatch.setenv(name, value)
            return open_store(f"s3://{address.bucket}/{uuid4()}")


def test_an_object_is_read_as_it_was_written(store: ObjectStore) -> None:
    everything = bytes(range(256)) * 40

    store.put("a/binary", everything)
    store.put("a/empty", b"")

    assert store.get("a/binary") == everything
    assert store.get("a/empty") == b""


def test_a_second_write_replaces_the_first(store: ObjectStore) -> None:
    store.put("key", b"a long first version")
    store.put("key", b"short")

    assert store.get("key") == b"short"
    assert store.list("") == ["key"]


def test_a_missing_object_is_a_file_not_found_that_names_the_key(store: ObjectStore) -> None:
    store.put("jobs/1/spec.json", b"{}")

    for key in ("jobs/1/spec", "jobs/1", "jobs/1/spec.json/child", "elsewhere"):
        with pytest.raises(FileNotFoundError, match=f"^{key}$"):
            store.get(key)


def test_a_deleted_object_is_gone_and_may_be_deleted_again(store: ObjectStore) -> None:
    store.put("a/b", b"")
    store.put("a/c", b"")

    store.delete("a/b")
    store.delete("a/b")
    store.delete("never/was")
    store.delete("a/c/child")

    assert store.list("") == ["a/c"]


def test_deleting_a_folder_name_deletes_nothing_in_it(store: ObjectStore) -> None:
    store.put("a/b", b"")

    store.delete("a")

    assert store.list("") == ["a/b"]


def test_a_listing_holds_exactly_the_keys_that_start_with_the_prefix(store: ObjectStore) -> None:
    keys = ["a/1", "a/2/x", "ab/1", "b", "jobs/10/spec", "jobs/1/spec"]
    for key in keys:
        store.put(key, b"")

    assert store.list("") == sorted(keys)
    assert store.list("a") == ["a/1", "a/2/x", "ab/1"]
    assert store.list("a/") == ["a/1", "a/2/x"]
    assert store.list("a/2") == ["a/2/x"]
    assert store.list("jobs/1/") == ["jobs/1/spec"]
    assert store.list("jobs/1") == ["jobs/1/spec", "jobs/10/spec"]
    assert store.list("nothing/here") == []
    assert store.list("b/") == []
    for prefix in ("", "a", "a/", "jobs/1", "nothing/here"):
        assert sorted(store.walk(prefix)) == store.list(prefix)


def test_the_folders_of_a_prefix_are_those_directly_under_it(store: ObjectStore) -> None:
    for key in ["a/10/claim", "a/9/logs/driver/0", "a/9/logs/driver/1", "a/file", "b/1/x", "ab/2/x"]:
        store.put(key, b"")

    assert store.folders("a/") == ["10", "9"]
    assert store.folders("") == ["a", "ab", "b"]
    assert store.folders("nowhere/") == store.folders("a/file/") == []


def test_a_listing_is_complete_and_sorted_beyond_a_thousand_keys(store: ObjectStore) -> None:
    """S3 answers a thousand keys at a time."""
    keys = [f"metrics/{number:06d}.jsonl" for number in range(1250)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b""), reversed(keys)))

    assert store.list("metrics/") == keys
    assert sorted(store.walk("metrics/")) == keys


def test_keys_may_hold_spaces_and_any_script(store: ObjectStore) -> None:
    keys = sorted(["a folder/an image +1%20.png", "ключ/図 ü.png", "plain", "q?x=1&y=2#z", "üb/é"])
    for key in keys:
        store.put(key, key.encode())

    assert store.list("") == keys
    assert store.list("ключ/") == ["ключ/図 ü.png"]
    assert [store.get(key).decode() for key in keys] == keys


def test_only_the_first_of_two_writers_creates_an_object(store: ObjectStore) -> None:
    assert store.put_if_absent("claim", b"first")
    assert not store.put_if_absent("claim", b"second")
    assert store.get("claim") == b"first"

    store.delete("claim")
    assert store.put_if_absent("claim", b"third")


def test_of_eight_racing_writers_exactly_one_wins(store: ObjectStore) -> None:
    start = Barrier(8)

    def claim(key: str, name: bytes) -> bool:
        start.wait()
        return store.put_if_absent(key, name)

    with ThreadPoolExecutor(8) as pool:
        for key in ("round/1", "round/2", "round/3"):
            names = [f"writer {number}".encode() for number in range(8)]
            won = list(pool.map(claim, [key] * 8, names))

            assert won.count(True) == 1
            assert store.get(key) == names[won.index(True)]
    assert store.list("round/") == ["round/1", "round/2", "round/3"]


def test_a_large_object_arrives_whole(store: ObjectStore) -> None:
    """Beyond 128 MiB an upload to S3 goes in parts."""
    data = bytes(range(251)) * (132 << 12) + b"end"

    store.put("large", data)
    store.put("view", memoryview(data)[1:])

    assert len(data) > 128 << 20
    assert store.get("large") == data
    assert store.get("view") == data[1:]
    assert store.list("") == ["large", "view"]


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [
        (0, 4, b"0123"),
        (3, 4, b"3456"),
        (6, 4, b"6789"),  # up to the last byte
        (8, 4, b"89"),  # across the end
        (0, 100, b"0123456789"),
        (9, 1, b"9"),
        (10, 4, b""),  # at the end
        (500, 4, b""),  # behind it
    ],
)
def test_a_part_is_what_lies_there_up_to_the_end(store: ObjectStore, offset: int, size: int, expected: bytes) -> None:
    store.put("a/digits", b"0123456789")

    assert store.part("a/digits", offset, size) == expected


def test_an_empty_object_has_only_empty_parts(store: ObjectStore) -> None:
    store.put("empty", b"")

    assert store.part("empty", 0, 8) == b""
    assert store.part("empty", 5, 8) == b""


def test_a_part_of_a_missing_object_is_a_file_not_found_that_names_the_key(store: ObjectStore) -> None:
    store.put("jobs/1/spec.json", b"{}")

    for key, offset in (("jobs/1", 0), ("jobs/1/spec.json/child", 0), ("elsewhere", 0), ("elsewhere", 9)):
        with pytest.raises(FileNotFoundError, match=f"^{key}$"):
            store.part(key, offset, 4)


def test_the_parts_of_an_object_are_together_the_whole(store: ObjectStore) -> None:
    data = bytes(range(251)) * 1000
    store.put("large", data)

    parts, size = [], 64 << 10
    while part := store.part("large", len(parts) * size, size):
        parts.append(part)

    assert [len(part) for part in parts] == [size, size, size, len(data) - 3 * size]
    assert b"".join(parts) == data


@pytest.mark.parametrize("backend", ["moto", "seaweed"])
def test_a_bucket_that_is_not_there_is_a_file_not_found_for_whoever_walks_it(store: ObjectStore) -> None:
    with pytest.raises(FileNotFoundError, match=r"^no-such-bucket$"):
        next(open_store("s3://no-such-bucket/a").walk(""))


def test_whoever_may_not_read_write_or_list_is_told_so(
    seaweed_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked of a server that knows whose key opens what."""
    for name, value in seaweed_server.environment.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{seaweed_server.bucket}/{uuid4()}"
    open_store(url).put("key", b"ours")

    def opened_by(access_key: str) -> ObjectStore:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", access_key)
        return open_store(url)

    stranger, outsider = opened_by(STRANGER), opened_by(OUTSIDER)
    assert list(stranger.walk("")) == ["key"]
    assert outsider.part("key", 0, 9) == b"ours"
    with pytest.raises(PermissionError, match="access is denied"):
        next(outsider.walk(""))
    for call in (
        lambda: stranger.part("key", 0, 9),
        lambda: stranger.get("key"),
        lambda: stranger.size("key"),
        lambda: stranger.put("key", b"theirs"),
        lambda: stranger.put("key", bytes(9 << 20)),
        lambda: stranger.put_if_absent("key", b"theirs"),
        lambda: stranger.delete("key"),
        lambda: outsider.list("key"),
        lambda: outsider.folders("key"),
    ):
        with pytest.raises(PermissionError, match=r"access is denied: .key."):
            call()


@pytest.mark.parametrize("read", ["get", "part"])
def test_an_answer_that_breaks_off_is_asked_for_again(
    seaweed_server: S3Server, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    for name, value in seaweed_server.environment.items():
        monkeypatch.setenv(name, value)
    data = bytes(range(251)) * 1000
    with faulty_proxy(seaweed_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        store = open_store(f"s3://{seaweed_server.bucket}/{uuid4()}")
        store.put("key", data)
        proxy.fault = S3Fault.TRUNCATE_ONCE

        assert (store.get("key") if read == "get" else store.part("key", 0, len(data))) == data
        assert proxy.num_faulty == 1


@pytest.mark.parametrize("backend", ["memory", "folder"])
def test_where_there_is_no_server_there_are_no_links(store: ObjectStore) -> None:
    store.put("key", b"")

    assert store.link("key", seconds=60) is None


@pytest.mark.parametrize("backend", ["moto", "seaweed"])
@pytest.mark.parametrize("key", ["jobs/job_1/results/images.zip", "a folder/an image +1%20.png", "ключ/図 ü.png"])
def test_a_link_is_fetched_without_credentials(store: ObjectStore, key: str) -> None:
    store.put(key, b"all of it")

    answer = httpx2.get(str(store.link(key, seconds=60)))

    assert (answer.status_code, answer.content) == (200, b"all of it")


def test_a_link_opens_nothing_but_its_object_and_for_nobody_who_changes_it(
    seaweed_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked of a server that verifies signatures; moto lets everybody in."""
    for name, value in seaweed_server.environment.items():
        monkeypatch.setenv(name, value)
    store = open_store(f"s3://{seaweed_server.bucket}/{uuid4()}")
    store.put("ours", b"shown")
    store.put("other", b"not shown")
    link = str(store.link("ours", seconds=60))

    tampered = {
        "another object": link.replace("/ours?", "/other?"),
        "a longer life": link.replace("X-Amz-Expires=60", "X-Amz-Expires=6000"),
        "another signature": f"{link[:-4]}{'0000' if link[-4:] != '0000' else '1111'}",
        "no signature": link.partition("?")[0],
    }

    assert httpx2.get(link).content == b"shown"
    for what, changed in tampered.items():
        assert changed != link, what
        answer = httpx2.get(changed)
        assert answer.status_code == 403, what
        assert b"shown" not in answer.content, what
    assert httpx2.put(link, content=b"written").status_code == 403
    assert httpx2.delete(link).status_code == 403
    assert store.get("ours") == b"shown"


def test_the_size_of_an_object_is_known_without_reading_it(store: ObjectStore) -> None:
    store.put("a/five", b"12345")
    store.put("a/none", b"")

    assert (store.size("a/five"), store.size("a/none")) == (5, 0)
    for key in ("a", "a/six", "a/five/child"):
        with pytest.raises(FileNotFoundError, match=f"^{key}$"):
            store.size(key)


@pytest.mark.parametrize("backend", ["memory", "folder"])
def test_where_there_is_no_server_nobody_can_put_anything(store: ObjectStore) -> None:
    assert store.link_to_put("key", 5, seconds=60) is None


def test_a_link_to_put_takes_one_object_of_one_size(seaweed_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of a server that verifies signatures."""
    for name, value in seaweed_server.environment.items():
        monkeypatch.setenv(name, value)
    store = open_store(f"s3://{seaweed_server.bucket}/{uuid4()}")
    link = str(store.link_to_put("uploads/part", 5, seconds=60))

    assert httpx2.put(link, content=b"12345").status_code == 200
    for content in (b"123456", b"1234", b""):
        assert httpx2.put(link, content=content).status_code == 403
    assert httpx2.put(link, content=iter([b"123", b"45"])).status_code == 403, "its size is not said"
    assert httpx2.put(link.replace("/part?", "/other?"), content=b"12345").status_code == 403
    assert httpx2.put(link.replace("Expires=60", "Expires=6000"), content=b"12345").status_code == 403
    assert httpx2.get(link).status_code == 403
    assert store.list("") == ["uploads/part"]
    assert store.get("uploads/part") == b"12345"


def test_links_lead_to_where_clients_find_the_server(seaweed_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in seaweed_server.environment.items():
        monkeypatch.setenv(name, value)
    public = seaweed_server.endpoint.replace("127.0.0.1", "localhost")
    store = open_store(f"s3://{seaweed_server.bucket}/{uuid4()}", public_endpoint=public)

    put, get = store.link_to_put("key", 5, seconds=60), store.link("key", seconds=60)

    assert str(put).startswith(public)
    assert httpx2.put(str(put), content=b"12345").status_code == 200
    assert httpx2.get(str(get)).content == b"12345"


@pytest.mark.parametrize("backend", ["moto", "seaweed"])
def test_stores_of_different_prefixes_do_not_see_each_other(
    backend: str, store: ObjectStore, request: pytest.FixtureRequest
) -> None:
    bucket = request.getfixturevalue(f"{backend}_server").bucket
    other = open_store(f"s3://{bucket}/{uuid4()}")

    store.put("key", b"ours")

    assert other.list("") == []
    with pytest.raises(FileNotFoundError):
        other.get("key")


@pytest.mark.parametrize("backend", ["memory", "moto", "seaweed"])
def test_an_object_may_share_its_name_with_a_folder_outside_of_file_systems(store: ObjectStore) -> None:
    store.put("k", b"parent")
    store.put("k/child", b"child")

    assert store.list("k") == ["k", "k/child"]
    assert (store.get("k"), store.get("k/child")) == (b"parent", b"child")


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "{folder}/outside"])
def test_a_folder_store_is_not_left_through_a_key(tmp_path: Path, key: str) -> None:
    store = open_store(f"file://{tmp_path}/store")

    with pytest.raises(ValueError, match="leaves the store"):
        store.put(key.format(folder=tmp_path), b"")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_nothing_behind_in_a_folder(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/store")
    store.put("a/b", b"")

    with pytest.raises(OSError, match="a"):
        store.put("a", b"where a folder is")

    assert [path.name for path in tmp_path.rglob("*")] == ["store", "a", "b"]


def test_what_a_killed_writer_has_left_in_a_folder_goes_when_that_is_listed(tmp_path: Path) -> None:
    """What is being written stays."""
    store = open_store(f"file://{tmp_path}")
    store.put("jobs/1/a", b"")
    left, written = (tmp_path / "jobs/1" / f".writing-{name}" for name in ("left", "written"))
    left.write_bytes(b"half")
    written.write_bytes(b"half")
    two_days_ago = time.time() - 2 * 86400
    os.utime(left, (two_days_ago, two_days_ago))

    assert store.list("jobs/1/") == ["jobs/1/a"]
    assert not left.exists()
    assert written.exists()


@pytest.mark.parametrize("url", ["bucket/prefix", "s3://", "http://host/bucket"])
def test_a_url_of_an_unknown_kind_is_refused_with_the_known_ones(url: str) -> None:
    with pytest.raises(ValueError, match="s3://bucket/prefix, file:///folder or memory://name"):
        open_store(url)
