"""Keys, projects and the audit on the command line, against the real application."""

from tests.support.served import Service


def test_a_key_is_made_listed_used_and_taken_back(service: Service) -> None:
    made = service.cdm("keys", "create", "ci", "--expires", "90d", "--json").document
    with_it = service.cdm("jobs", "--key", made["key"])
    listed = service.cdm("keys", "list")

    assert (made["scopes"], made["project"]) == (["jobs:read", "jobs:write"], "default")
    assert with_it.out == "no jobs\n"
    assert made["id"] in listed.out
    assert made["key"] not in listed.out
    assert service.cdm("keys", "create", "--key", made["key"]).err.startswith("error: ")

    assert service.cdm("keys", "revoke", made["id"]).out == f"revoked {made['id']}\n"

    assert service.cdm("keys", "list").out == "no keys\n"
    assert "revoked" in service.cdm("keys", "list", "--revoked").out
    assert "there is no API key" in service.cdm("keys", "revoke", "key_none").err


def test_a_key_is_shown_once_and_for_people_on_a_line_of_its_own(service: Service) -> None:
    secret, words = service.cdm("keys", "create", "--scope", "jobs:read").out.splitlines()

    assert secret.startswith("cdm_sk_")
    assert "not shown again" in words


def test_a_project_is_made_limited_and_worked_in(service: Service) -> None:
    service.cdm("projects", "create", "vision", "--max-workers", "8")
    changed = service.cdm("projects", "set", "vision", "--max-workers", "none", "--max-jobs", "2")
    job = service.submit("--project", "vision")

    assert changed.out == "vision: any number of workers, 2 jobs at a time\n"
    assert "vision" in service.cdm("projects", "list").out
    assert service.cdm("jobs").out == "no jobs\n"
    assert job in service.cdm("jobs", "--project", "vision").out
    assert "say what is to change" in service.cdm("projects", "set", "vision").err
    assert "no limit: give a number, or none" in service.cdm("projects", "set", "vision", "--max-jobs", "-1").err
    assert "there is no project" in service.cdm("jobs", "--project", "sound").err


def test_the_audit_says_who_did_what(service: Service) -> None:
    job = service.submit()

    rows = service.cdm("audit", "--target", job, "--json").document

    assert [(row["actor"], row["action"]) for row in rows] == [("bootstrap", "job.create")]
    assert "job.create" in service.cdm("audit").out


def test_what_is_not_allowed_is_an_error_of_one_line(service: Service) -> None:
    reader = service.cdm("keys", "create", "--scope", "jobs:read", "--json").document["key"]

    refused = service.cdm("submit", "smoke", "--key", reader)

    assert refused.code == 1
    assert refused.err.count("\n") == 1
