"""Refusals that have to do with data sets."""

from service.errors import ServiceError


class DatasetInUse(ServiceError):
    code, status, title = "dataset_in_use", 409, "Jobs refer to the data set"
