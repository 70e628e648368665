"""The region that requests and links are signed for."""

import pytest

from workers.storage.s3 import S3Store


@pytest.mark.parametrize(
    ("told", "region"),
    [
        ({}, "us-east-1"),
        ({"AWS_REGION": "eu-central-1"}, "eu-central-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-3"}, "eu-west-3"),
        ({"AWS_DEFAULT_REGION": "eu-west-3", "AWS_REGION": "eu-central-1"}, "eu-west-3"),
    ],
)
def test_either_variable_tells_it(monkeypatch: pytest.MonkeyPatch, told: dict[str, str], region: str) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_CONFIG_FILE": "/dev/null"}
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (keys | told).items():
        monkeypatch.setenv(name, value)

    link = S3Store.connect("bucket").link("key", seconds=60)

    assert link is not None
    assert f"%2F{region}%2Fs3%2Faws4_request" in link
