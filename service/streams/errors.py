"""Refusals of streams."""

from service.errors import Retriable


class TooManyStreams(Retriable):
    code, status, title = "too_many_streams", 503, "Too many clients are watching"
