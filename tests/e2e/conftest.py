"""The stack that all these tests use."""

from tests.support.whole_stack import stack

__all__ = ["stack"]
