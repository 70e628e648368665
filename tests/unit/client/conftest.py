"""What all tests of this folder start from."""

import pytest

from tests.support.client_answers import Time


@pytest.fixture
def time() -> Time:
    return Time()
