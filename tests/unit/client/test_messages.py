"""What a receiver believes of what it is posted."""

from datetime import UTC, datetime

import pytest

from service.client import MessageRefused
from service.client.webhooks import verify
from service.webhooks.signatures import new_secret, signature
from service.webhooks.views import PING, Message

NOW = 1_800_000_000
SECRET, ANOTHER = new_secret(), new_secret()
BODY = Message(type=PING, timestamp=datetime(2026, 11, 1, tzinfo=UTC), data=None).model_dump_json().encode()


def headers(*secrets: str, body: bytes = BODY) -> dict[str, str]:
    signed = [signature(secret, message_id="dlv_1", timestamp=NOW, body=body) for secret in secrets]
    return {"Webhook-Id": "dlv_1", "Webhook-Timestamp": str(NOW), "Webhook-Signature": " ".join(signed)}


def test_a_message_that_the_service_has_signed_is_read() -> None:
    assert verify(SECRET, headers(SECRET), BODY, now=NOW + 299).type == PING
    assert verify(SECRET, headers(ANOTHER, SECRET), BODY, now=NOW - 299).data is None


def test_a_message_of_a_later_release_is_read() -> None:
    body = BODY[:-1] + b',"novel":1}'

    assert verify(SECRET, headers(SECRET, body=body), body, now=NOW).type == PING


@pytest.mark.parametrize(
    ("changes", "body", "late", "words"),
    [
        ({}, BODY + b" ", 0, "not signed"),
        ({"Webhook-Id": "dlv_2"}, BODY, 0, "not signed"),
        ({"Webhook-Timestamp": str(NOW + 1)}, BODY, 0, "not signed"),
        ({"Webhook-Signature": ""}, BODY, 0, "not signed"),
        ({"Webhook-Signature": "v1,\xfc"}, BODY, 0, "not signed"),
        (headers(ANOTHER), BODY, 0, "not signed"),
        ({"Webhook-Timestamp": "soon"}, BODY, 0, "does not say when"),
        ({}, BODY, 301, "at another time"),
        ({}, BODY, -301, "at another time"),
        (headers(SECRET, body=b"{}"), b"{}", 0, "cannot read"),
    ],
)
def test_any_other_is_refused(changes: dict[str, str], body: bytes, late: int, words: str) -> None:
    with pytest.raises(MessageRefused, match=words):
        verify(SECRET, headers(SECRET) | changes, body, now=NOW + late)
