"""Webhooks on the command line, against the real application."""

from tests.support.served import Service


def test_a_webhook_is_made_pinged_listed_and_deleted(service: Service) -> None:
    made = service.cdm("webhooks", "create", "http://127.0.0.1:9/hook", "--event", "failed", "--json").document
    listed = service.cdm("webhooks", "list")
    ping = service.cdm("webhooks", "ping", made["id"], "--json").document

    assert made["id"] in listed.out
    assert "failed" in listed.out
    assert made["secret"] not in listed.out
    assert ping["id"] in service.cdm("webhooks", "deliveries", made["id"]).out
    assert service.cdm("webhooks", "replay", made["id"], ping["id"]).out == f"{ping['id']} is on its way again\n"
    assert service.cdm("webhooks", "delete", made["id"]).out == f"deleted {made['id']}\n"
    assert service.cdm("webhooks", "list").out == "no webhooks\n"


def test_a_secret_is_shown_once_and_for_people_on_a_line_of_its_own(service: Service) -> None:
    secret, words = service.cdm("webhooks", "create", "http://127.0.0.1:9/hook").out.splitlines()

    assert secret.startswith("whsec_")
    assert "not shown again" in words


def test_an_event_that_there_is_none_of_is_refused(service: Service) -> None:
    refused = service.cdm("webhooks", "create", "http://127.0.0.1:9/hook", "--event", "happy")

    assert refused.code == 1
    assert refused.err == "error: event_types.0: there is no such type of event, and no such state\n"
