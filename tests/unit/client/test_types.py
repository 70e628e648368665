"""Type checkers of those who use the SDK read its annotations."""

from importlib.resources import files

import pytest


@pytest.mark.parametrize("package", ["service", "workers"])
def test_packages_say_that_they_are_typed(package: str) -> None:
    assert files(package).joinpath("py.typed").is_file()  # PEP 561
