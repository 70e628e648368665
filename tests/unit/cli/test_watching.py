"""What is shown of a job that is followed."""

import httpx2
import pytest

from service.cli import text, watching
from service.cli.stages import Stages
from service.client import Client, ServiceUnreachable
from service.jobs.views import Job
from workers.contract.presets import PRESETS


def job(state: str, *, images_seen: int | None = None, phase: str = "training", message: str | None = None) -> Job:
    progress = {
        "phase": phase,
        "images_seen": images_seen,
        "total_images": 320,
        "images_per_second": 80.0,
        "eta_seconds": 3.2,
        "losses": {"dsm": 0.51234, "consistency": 0.0021},
        "last_checkpoint_images": 160 if images_seen and images_seen >= 160 else None,
        "num_workers": 2,
        "mlflow_run_id": "run1",
        "updated_at": "2026-11-01T00:00:00Z",
    }
    document = {
        "id": "job_1",
        "name": None,
        "state": state,
        "reason": None,
        "message": message,
        "spec": PRESETS["smoke"],
        "spec_sha256": "0" * 64,
        "created_at": "2026-11-01T00:00:00Z",
        "started_at": None,
        "ended_at": "2026-11-01T00:01:01Z" if state in {"succeeded", "failed"} else None,
        "attempt": 1,
        "progress": None if images_seen is None else progress,
        "mlflow_url": None,
        "conditions": (),
        "links": {},
    }
    return Job.model_validate(document)


@pytest.mark.parametrize(
    ("shown", "line"),
    [
        (job("queued", message="waiting_capacity"), "queued (waiting_capacity)  0/320"),
        (
            job("running", images_seen=160),
            "running  160/320  80 images/s, 0:00:03 left  dsm 0.5123  consistency 0.0021  checkpoint 160",
        ),
        (job("running", images_seen=0, phase="preparing"), "running (preparing)  0/320"),
        (job("failed", message="a loss became nan"), "failed (a loss became nan)  0/320"),
    ],
)
def test_a_line_says_where_a_job_stands(shown: Job, line: str) -> None:
    assert text.line(shown).startswith(line)


def test_the_end_says_how_long_it_took_and_where_to_look() -> None:
    assert text.ending(job("succeeded")).startswith(
        "succeeded after 0:01:01, 0/320 images; look at it with `cdm images"
    )
    assert "`cdm logs job_1`" in text.ending(job("failed"))


def test_following_bridges_a_service_that_is_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([job("running"), None, None, None, job("running", images_seen=32), job("succeeded")])
    monkeypatch.setattr("time.sleep", lambda _: None)

    def answer(_: httpx2.Request) -> httpx2.Response:
        found = next(answers)
        if found is None:
            raise httpx2.ConnectError("refused")
        return httpx2.Response(200, content=found.model_dump_json())

    with Client("http://cdm.test", "key", transport=httpx2.MockTransport(answer)) as client:
        states = [str(each.state) for each in watching.follow(client, "job_1")]

    assert states == ["running", "running", "succeeded"]


def test_following_gives_up_on_a_service_that_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 10_000, 10))
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("time.monotonic", lambda: float(next(now)))

    def refuse(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    with (
        Client("http://cdm.test", "key", transport=httpx2.MockTransport(refuse)) as client,
        pytest.raises(ServiceUnreachable),
    ):
        list(watching.follow(client, "job_1"))


def test_outside_a_terminal_only_news_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    states = [job("running", images_seen=seen) for seen in (32, 64, 96, 160, 192)]

    last = watching.watch(iter([job("queued"), *states, job("succeeded")]), as_json=False)

    lines = capsys.readouterr().out.splitlines()
    assert last.state == "succeeded"
    assert [line.split("  ")[1] for line in lines] == ["0/320", "32/320", "160/320", "0/320"]


def test_the_stages_of_a_run_add_up_to_its_time() -> None:
    moments = iter([0.0, 7.0, 27.0, 150.0, 153.0])
    stages = Stages(clock=lambda: next(moments))
    stages.ends("start")

    way = [
        job("queued"),
        job("running", images_seen=32),
        job("running", images_seen=320),
        job("succeeded", images_seen=320),
    ]
    list(stages.noting(iter(way)))

    assert stages.seconds == {"start": 7, "first step": 20, "training": 123, "finish": 3, "total": 153}
