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
    changed = service.cdm(
        *("projects", "set", "vision", "--max-workers", "none", "--max-jobs", "2", "--max-priority", "normal")
    )
    urgent = service.cdm("submit", "smoke", "--project", "vision", "--priority", "high")
    job = service.submit("--project", "vision")

    assert changed.out == "vision: any number of workers, 2 jobs at a time, priority up to normal\n"
    assert "jobs of the project vision may have normal at most" in urgent.err
    assert "vision" in service.cdm("projects", "list").out
    assert service.cdm("jobs").out == "no jobs\n"
    assert job in service.cdm("jobs", "--project", "vision").out
    assert "say what is to change" in service.cdm("projects", "set", "vision").err
    assert "no limit: give a number, or none" in service.cdm("projects", "set", "vision", "--max-jobs", "-1").err
    assert "there is no project" in service.cdm("jobs", "--project", "sound").err


def test_jobs_and_the_queue_of_all_projects_are_listed_for_admins_alone(service: Service) -> None:
    service.cluster.reachable = False
    key = service.cdm("keys", "create", "alice", "--json").document["key"]
    service.cdm("projects", "create", "vision")
    hers, theirs = service.submit("--key", key), service.submit("--project", "vision")

    jobs, queue = service.cdm("jobs", "--all-projects"), service.cdm("queue", "--all-projects")

    assert [line.split()[:2] for line in jobs.out.splitlines()] == [
        ["JOB", "PROJECT"],
        [theirs, "vision"],
        [hers, "default"],
    ]
    assert [line.split()[:3] for line in queue.out.splitlines()] == [
        ["PLACE", "JOB", "PROJECT"],
        ["1", hers, "default"],
        ["2", theirs, "vision"],
    ]
    assert theirs in service.cdm("queue", "--all-projects", "--project", "default").out
    assert "PROJECT" not in service.cdm("jobs").out + service.cdm("queue").out
    assert theirs not in service.cdm("jobs").out + service.cdm("queue").out
    assert service.cdm("jobs", "--all-projects", "--key", key).err == "error: this needs the scope admin\n"
    assert service.cdm("show", theirs, "--project", "vision", "--json").document["id"] == theirs
    assert service.cdm("cancel", theirs, "--project", "vision").out == f"{theirs} is cancelled\n"


def test_whose_a_job_is_stands_in_every_list_and_ones_own_are_a_list(service: Service) -> None:
    service.cluster.reachable = False
    key = service.cdm("keys", "create", "alice", "--json").document
    hers, ours = service.submit("--key", key["key"]), service.submit()

    assert [one["id"] for one in service.cdm("jobs", "--mine", "--key", key["key"], "--json").document] == [hers]
    assert [one["id"] for one in service.cdm("jobs", "--mine", "--json").document] == [ours]
    for command in ("jobs", "queue"):
        head, *rows = service.cdm(command).out.splitlines()
        by = {job: row[head.index("CREATED BY") :].split()[0] for row in rows for job in (hers, ours) if job in row}
        assert by == {hers: "alice", ours: "bootstrap"}
    shown = dict(line.split(maxsplit=1) for line in service.cdm("show", hers).out.splitlines())
    assert shown["by"] == f"alice ({key['id']})"


def test_the_audit_says_who_did_what(service: Service) -> None:
    job = service.submit()

    rows = service.cdm("audit", "--target", job, "--json").document

    assert [(row["actor"], row["action"]) for row in rows] == [("bootstrap", "job.create")]
    assert "job.create" in service.cdm("audit").out
    assert "job.create" in service.cdm("audit", "--days", "1").out


def test_what_is_not_allowed_is_an_error_of_one_line(service: Service) -> None:
    reader = service.cdm("keys", "create", "--scope", "jobs:read", "--json").document["key"]

    refused = service.cdm("submit", "smoke", "--key", reader)

    assert refused.code == 1
    assert refused.err.count("\n") == 1


def test_who_has_had_how_much_is_a_table(service: Service) -> None:
    key = service.cdm("keys", "create", "alice", "--json").document["key"]
    nothing = service.cdm("usage", "--days", "7")
    for arguments in (("--key", key), ("--key", key), ()):
        service.ended(*arguments)

    head, *rows = service.cdm("usage", "--all-projects").out.splitlines()

    assert nothing.out == "no jobs ran in the last 7 days\n"
    assert head.split() == ["PROJECT", "CREATED", "BY", "JOBS", "HOURS", "OF"]
    assert sorted(row.split() for row in rows) == [
        ["default", "alice", "2", "0.0", "CPU", "workers"],
        ["default", "bootstrap", "1", "0.0", "CPU", "workers"],
    ]
    assert sorted(one["jobs"] for one in service.cdm("usage", "--json", "--key", key).document["data"]) == [1, 2]
    assert service.cdm("usage", "--all-projects", "--key", key).err == "error: this needs the scope admin\n"
