"""`cdm metrics`: the latest values of a job, or curves, as MLflow has them."""

from datetime import UTC, datetime

import pytest

from tests.support.served import Service
from tests.support.waiting import wait_until


@pytest.fixture
def measured(service: Service) -> str:
    """A job that MLflow has curves of."""
    service.mlflow.curves |= {
        "loss/dsm": {160: 0.5, 1600: 0.123456789},
        "loss/consistency": {160: 0.25, 1600: float("nan")},
    }
    job = service.submit()
    service.worker(job).progress(at=datetime.now(UTC))
    wait_until(lambda: service.client.jobs.retrieve(job).state == "running")
    return job


def cells(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_without_keys_the_latest_value_of_each_curve_is_shown(service: Service, measured: str) -> None:
    answer = service.cdm("metrics", measured)

    assert (answer.code, answer.err) == (0, "")
    assert cells(answer.out) == [
        ["KEY", "IMAGES", "VALUE"],
        ["loss/consistency", "1,600", "not", "finite"],
        ["loss/dsm", "1,600", "0.123457"],
    ]


def test_curves_are_shown_one_below_the_other(service: Service, measured: str) -> None:
    answer = service.cdm("metrics", measured, "loss/dsm", "loss/consistency")

    dsm, consistency = map(cells, answer.out.split("\n\n"))
    assert dsm == [["IMAGES", "loss/dsm"], ["160", "0.5"], ["1,600", "0.123457"]]
    assert consistency == [["IMAGES", "loss/consistency"], ["160", "0.25"], ["1,600", "not", "finite"]]


def test_a_key_that_is_none_is_refused_with_the_one_that_was_meant(service: Service, measured: str) -> None:
    close, far = service.cdm("metrics", measured, "loss/dms"), service.cdm("metrics", measured, "eval/FID")
    listed = service.cdm("jobs", "--metric", "loss/dms")

    assert (close.code, close.err) == (1, f"error: {measured} has no loss/dms: did you mean loss/dsm?\n")
    assert far.err == f"error: {measured} has no eval/FID: there is loss/consistency, loss/dsm\n"
    assert (listed.code, listed.err) == (0, "none of these jobs has loss/dms: did you mean loss/dsm?\n")


def test_programs_get_the_numbers_as_they_are(service: Service, measured: str) -> None:
    [series] = service.cdm("metrics", measured, "loss/dsm", "--json").document

    assert series["key"] == "loss/dsm"
    assert [(point["images_seen"], point["value"]) for point in series["points"]] == [(160, 0.5), (1600, 0.123456789)]


def test_a_job_that_has_measured_nothing_is_no_error(service: Service) -> None:
    answer = service.cdm("metrics", service.submit())

    assert (answer.code, answer.out) == (0, "nothing has been measured yet\n")
