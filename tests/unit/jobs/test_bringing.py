"""Files of the web that a job names: brought once, before its workers start, and the same for all of them."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.site import CONTENT, Site, a_site, redirect, whole
from tests.support.specs import smoke_spec
from workers.contract.document import SpecError
from workers.contract.evaluation import EvaluateSpec
from workers.contract.features import Inception
from workers.contract.jobs import AnySpec
from workers.contract.keys import JobKeys
from workers.contract.sampling import CheckpointSource, Inpainting, SampleSpec
from workers.jobs.bringing import bring_from_the_web
from workers.jobs.failures import LeftEarlyError
from workers.storage import JobFiles, read_location
from workers.storage.memory import MemoryStore

KEYS = JobKeys("job_1")
DRAWN: dict[str, Any] = {"checkpoint": CheckpointSource(job_id="job_0")}


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """On this machine, where workers go only if they may."""
    monkeypatch.setenv("CDM_ALLOW_PRIVATE_ADDRESSES", "true")
    with a_site() as site:
        yield site


def spec_of(field: str, url: str) -> AnySpec:
    """A document is held to https:// when it comes; here it is changed afterwards, for a server that has no TLS."""
    inpainting = {name: url if field.endswith(name) else "/data/known.png" for name in ("image", "mask")}
    inception = Inception(kind="inception", weights="/data/inception.pth", sha256="0" * 64)
    match field:
        case "initial_weights":
            return smoke_spec().model_copy(update={"initial_weights": url})
        case "inpainting.image" | "inpainting.mask":
            known = Inpainting.model_construct(None, **inpainting)
            return SampleSpec(kind="sample", **DRAWN).model_copy(update={"inpainting": known})
        case "features.weights":
            features = inception.model_copy(update={"weights": url})
            return EvaluateSpec(kind="evaluate", **DRAWN).model_copy(update={"features": features})
        case _:
            evaluation = EvaluateSpec(kind="evaluate", features=inception, **DRAWN)
            return evaluation.model_copy(update={"reference": url})


def bring(spec: AnySpec, store: MemoryStore) -> None:
    bring_from_the_web(spec, KEYS, store, on_bytes=lambda *_: None)


FIELDS = ["initial_weights", "inpainting.image", "inpainting.mask", "features.weights", "reference"]


@pytest.mark.parametrize("field", FIELDS)
def test_it_is_fetched_once_and_what_it_is_later_does_not_matter(site: Site, field: str) -> None:
    store, url = MemoryStore(), site.url("/file?revision=1", host="127.0.0.1")
    site.answers["/file"] = whole()

    bring(spec_of(field, url), store)
    site.answers["/file"] = whole(b"another")
    bring(spec_of(field, url), store)

    assert len(site.asked) == 1
    assert read_location(url, most_bytes=len(CONTENT), job_files=JobFiles(store, KEYS)) == CONTENT
    assert store.list("") == [KEYS.brought(url)]


@pytest.mark.parametrize("field", FIELDS)
def test_what_cannot_be_had_is_refused_with_its_field_and_nothing_is_kept(site: Site, field: str) -> None:
    store, (missing, empty, inside) = MemoryStore(), (site.url(f"/{n}", host="127.0.0.1") for n in ("no", "0", "in"))
    site.answers["/0"] = whole(b"")
    site.answers["/in"] = redirect("https://169.254.169.254/credentials")

    for url, words in (
        (missing, "127.0.0.1 answered 404; see the URL"),
        (empty, "is empty; see the URL"),
        (inside, "169.254.169.254 leads to no public address; the workers go nowhere else"),
    ):
        with pytest.raises(SpecError) as refused:
            bring(spec_of(field, url), store)
        assert str(refused.value).startswith(f"{field}: {url}: ")
        assert words in str(refused.value)
    assert store.list("") == []


def test_who_is_asked_to_leave_meanwhile_leaves_and_keeps_nothing(site: Site) -> None:
    store, url = MemoryStore(), site.url("/file", host="127.0.0.1")
    site.answers["/file"] = whole()

    def leave(*_: object) -> None:
        raise LeftEarlyError

    with pytest.raises(LeftEarlyError):
        bring_from_the_web(spec_of("reference", url), KEYS, store, on_bytes=leave)

    assert store.list("") == []


def test_what_lies_elsewhere_is_left_where_it_is() -> None:
    store = MemoryStore()

    for place in ("/data/file", "s3://bucket/file", "upload://upl_01ARZ3NDEKTSV4RRFFQ69G5FAV"):
        bring(spec_of("reference", place), store)

    assert store.list("") == []
