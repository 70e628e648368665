"""What is wrong with what somebody brought to an evaluation."""


class FeaturesError(ValueError):
    """Features that cannot be computed; the message begins with the field to change."""


class StatisticsError(ValueError):
    """A file of feature statistics that cannot be used; the message says what is wrong with it."""
