"""Tables of what people write in whatever script."""

import pytest

from service.cli.text import table


@pytest.mark.parametrize(
    ("name", "columns"), [("faces", 5), ("\u732b\u306e\u9854", 6), ("\U0001f600 cats", 7), ("cafe\u0301", 4)]
)
def test_columns_are_under_each_other_however_wide_the_characters_are(name: str, columns: int) -> None:
    assert (
        table([("NAME" * 3, "STATE"), (name, "queued")]) == f"NAMENAMENAME  STATE\n{name}{' ' * (14 - columns)}queued"
    )
