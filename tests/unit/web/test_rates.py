"""Wrong credentials are counted by address; whoever has one of IPv6 has a whole network of them."""

import pytest

from service.web.rates import FailedLogins
from tests.support.clock import ManualClock, counted_by


@pytest.mark.parametrize(
    ("first", "second", "count_as_one"),
    [
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:0DB8:0:0::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("unknown", "unknown", True),
        ("unknown", "192.0.2.1", False),
    ],
)
async def test_addresses_that_share_what_may_be_wrong(
    monkeypatch: pytest.MonkeyPatch, first: str, second: str, count_as_one: bool
) -> None:
    counted_by(ManualClock(), monkeypatch)
    failures = FailedLogins(per_minute=2)

    await failures.count(first)
    await failures.count(second)

    assert bool(await failures.seconds_to_wait(first)) is count_as_one
    assert bool(await failures.seconds_to_wait(second)) is count_as_one
