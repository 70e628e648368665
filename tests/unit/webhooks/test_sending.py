"""When a message that did not arrive is sent again, and how it is signed."""

from datetime import timedelta

from service.webhooks.sending import MAX_TRIES, pause_after
from service.webhooks.signatures import new_secret, signature


def test_pauses_grow_and_end_after_about_three_days() -> None:
    pauses = [pause_after(tries, jitter=0.5) for tries in range(1, MAX_TRIES)]
    known = [pause for pause in pauses if pause]

    assert len(known) == len(pauses) == MAX_TRIES - 1
    assert known == sorted(known)
    assert known[0] == timedelta(seconds=10)
    assert timedelta(days=2.5) < sum(known, timedelta()) < timedelta(days=3.5)
    assert pause_after(MAX_TRIES, jitter=0.5) is None


def test_jitter_spreads_a_pause_by_a_fifth() -> None:
    assert pause_after(1, jitter=0.0) == timedelta(seconds=9)
    assert pause_after(1, jitter=1.0) == timedelta(seconds=11)


def test_a_signature_is_that_of_the_specification() -> None:
    # The example of https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    signed = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )

    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_secrets_differ_and_have_enough_bits() -> None:
    assert new_secret() != new_secret()
    assert len(new_secret()) == len("whsec_") + 44
