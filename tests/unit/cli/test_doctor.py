"""`cdm doctor`: every trouble has a line with its mend."""

from pathlib import Path

from service.embedded.documents import Connection
from service.embedded.folder import Folder
from tests.support.command import Answer, Command
from tests.support.served import Service
from tests.support.waiting import wait_until


def checks(answer: Answer) -> dict[str, bool]:
    return {check["name"]: check["ok"] for check in answer.document["checks"]}


def test_a_service_that_is_well_is_said_to_be(service: Service) -> None:
    answer = service.cdm("doctor", "--json")

    assert (answer.code, answer.document["ready"]) == (0, True)
    assert set(checks(answer)) == {"service", "database", "object_store", "ray", "mlflow", "version", "key"}
    assert "NOT OK" not in service.cdm("doctor").out


def test_a_key_that_is_wrong_is_the_only_thing_wrong(service: Service) -> None:
    answer = service.cdm("doctor", "--key", "wrong", "--json")

    assert answer.code == 1
    assert [name for name, ok in checks(answer).items() if not ok] == ["key"]


def test_what_the_service_lacks_is_named_with_its_mend_and_its_log(service: Service) -> None:
    service.mlflow.down = True

    answer = service.cdm("doctor")
    (line,) = [line for line in answer.out.splitlines() if "NOT OK" in line]

    assert answer.code == 1
    assert line.startswith("mlflow")
    assert "see that the MLflow server runs" in line
    assert line.endswith(str(Folder.at(None).log("mlflow")))


def test_without_ray_the_queue_says_what_doctor_promises(service: Service) -> None:
    service.cluster.reachable = False
    service.submit()

    (line,) = [line for line in service.cdm("doctor").out.splitlines() if "NOT OK" in line]

    assert line.startswith("ray")
    assert "`cdm queue` says what is wrong" in line
    wait_until(lambda: "the line is cut" in service.cdm("queue").out)


def test_a_stack_that_is_down_and_one_that_never_was_are_told_apart(cdm: Command, tmp_path: Path) -> None:
    never = cdm("doctor")
    (tmp_path / "home").mkdir()
    Connection(url="http://127.0.0.1:1", api_key="k").write(tmp_path / "home" / "connection.json")
    down = cdm("doctor")

    assert (never.code, down.code) == (1, 1)
    assert never.out.startswith("service  NOT OK  there is no stack in ")
    assert down.out.startswith("service  NOT OK  no answer from http://127.0.0.1:1: start it with `cdm up`, or see ")


def test_a_service_elsewhere_is_looked_at_with_what_was_given_for_it(cdm: Command) -> None:
    unreachable = cdm("doctor", "--url", "http://127.0.0.1:1", "--key", "k")
    keyless = cdm("doctor", "--url", "http://127.0.0.1:1")

    assert "check --url, the network between" in unreachable.out
    assert "give --key, or set CDM_API_KEY" in keyless.out
