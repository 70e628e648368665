"""What all tests of this folder start from."""

from tests.support.randomness import same_random_numbers

__all__ = ["same_random_numbers"]
