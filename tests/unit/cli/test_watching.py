"""What is shown of a job that is followed."""

import pytest

from service.cli import details, text, watching
from service.cli.bar import live_bar
from service.cli.quickstart import Stages
from service.jobs.result_views import Attempt
from service.jobs.views import Job
from tests.support.job_views import job_view
from tests.support.specs import smoke_spec
from workers.contract.records import Resume, TimeBreakdown


def job(state: str, *, images_seen: int | None = None, phase: str = "training", **said: str | None) -> Job:
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
    return job_view(
        state=state,
        **said,
        ended_at="2026-11-01T00:01:01Z" if state in {"succeeded", "failed"} else None,
        attempt=1,
        progress=None if images_seen is None else progress,
    )


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
        (
            job("failed", images_seen=160, reason="max_runtime_exceeded", message="asked to stop"),
            "failed (max_runtime_exceeded: asked to stop)  160/320  80 images/s  dsm",
        ),
    ],
)
def test_a_line_says_where_a_job_stands(shown: Job, line: str) -> None:
    assert text.line(shown).startswith(line)


def test_the_end_says_how_long_it_took_and_where_to_look() -> None:
    assert text.ending(job("succeeded")).startswith(
        "succeeded after 0:01:01, 0/320 images; look at it with `cdm images"
    )
    assert "`cdm logs job_1`" in text.ending(job("failed"))
    assert "`cdm show job_1`" in text.ending(job("cancelled").model_copy(update={"attempt": 0}))


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


def attempt(number: int, *, minutes: tuple[int, int | None], ledger: TimeBreakdown | None) -> Attempt:
    begun, ended = (None if minute is None else f"2026-11-01T00:0{minute}:00Z" for minute in minutes)
    return Attempt.model_validate(
        {
            "number": number,
            "submission_id": f"job_1-a{number}",
            "created_at": begun,
            "submitted_at": begun,
            "ended_at": ended,
            "from_images": 0,
            "reason": None,
            "message": None,
            "ledger": ledger,
        }
    )


def test_a_job_shows_what_its_network_and_its_memory_come_to() -> None:
    running = job("running", images_seen=160)
    assert running.progress
    told = running.progress.model_copy(update={"num_parameters": 55_733_891, "peak_memory_bytes": 3 << 29})

    shown = details.job(running.model_copy(update={"progress": told}), [], None).splitlines()

    words = [" ".join(line.split()) for line in shown]
    assert "network 55,733,891 parameters" in words
    assert "memory 1.50 GiB at most, of the first worker's process" in words
    assert not {"network", "memory"} & {line.split()[0] for line in details.job(running, [], None).splitlines()}


def test_a_resumed_job_says_how_it_compares() -> None:
    progress = job("running", images_seen=160).progress
    assert progress
    resume = Resume(images_seen=80, verdict="within_tolerance", compared_rows=4, largest_difference=2e-5)
    resumed = progress.model_copy(update={"resume": resume})

    assert text.resumed(resumed) == (
        "at 80 images: within tolerance, by up to 2.0e-05 of their size, 4 rows of metrics compared"
    )
    other = resume.model_copy(update={"verdict": "nothing_to_compare", "other_device": "NVIDIA A100"})
    assert text.resumed(progress.model_copy(update={"resume": other})) == (
        "at 80 images: nothing to compare; NVIDIA A100 drew other noise before"
    )
    changed = resume.model_copy(update={"other_code": "1a2b3c"})
    assert text.resumed(progress.model_copy(update={"resume": changed})).endswith(
        "4 rows of metrics compared; the code was another before (1a2b3c)"
    )
    assert text.resumed(progress) == ""


def test_what_the_time_went_for_counts_all_attempts_and_what_lies_between_them() -> None:
    first = attempt(1, minutes=(0, 2), ledger=TimeBreakdown(useful=60.0, sampling=3.0))
    unheard = attempt(2, minutes=(3, 4), ledger=None)
    last = attempt(3, minutes=(4, None), ledger=TimeBreakdown(useful=60.0, recomputed=17.0))

    assert text.spent([first, unheard, last]) == "useful 60.0%, waiting 30.0%, recomputed 8.5%, sampling 1.5%"
    assert text.spent([last]) == "useful 77.9%, recomputed 22.1%"
    assert (text.spent([unheard]), text.spent([])) == ("", "")


@pytest.mark.parametrize(
    ("every", "advised", "shown"),
    [
        (160, None, "160"),
        (160, 80, "160"),
        (160, 320, "160"),
        (160, 79, "160; one every 79 images would cost less time"),
        (160, 6400, "160; one every 6,400 images would cost less time"),
        ("auto", None, "160"),
        ("auto", 6400, "160, one about every 6,400 images"),
    ],
)
def test_the_last_checkpoint_is_shown_with_how_far_apart_they_had_better_be(
    every: int | str, advised: int | None, shown: str
) -> None:
    running = job("running", images_seen=200)
    assert running.progress
    spec = smoke_spec(cadence={"log_images": 32, "checkpoint_images": every})
    progress = running.progress.model_copy(update={"advised_checkpoint_images": advised})

    assert text.last_checkpoint(running.model_copy(update={"spec": spec, "progress": progress})) == shown


def test_when_the_first_checkpoint_comes_is_said_however_it_was_asked_for() -> None:
    assert text.first_checkpoint(smoke_spec().cadence) == "after 160 images"
    auto = smoke_spec(cadence={"log_images": 32, "checkpoint_images": "auto"})
    assert text.first_checkpoint(auto.cadence) == "in the first minutes of training"


def test_a_narrow_terminal_shows_state_images_and_time_left_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    far = {"images_seen": 12_345_678, "total_images": 200_000_000, "images_per_second": 594.2, "eta_seconds": 315_000.0}
    shown = job("running", images_seen=160)
    assert shown.progress
    shown = shown.model_copy(update={"progress": shown.progress.model_copy(update=far)})

    with live_bar() as show:
        show(shown)

    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("12,345,678/200,000,000 594 images/s, 3 days, 15:30:00 left" in line for line in lines)
    assert any(line.startswith("running  dsm 0.5123  consistency 0.0021  checkpoint 160") for line in lines)
