"""Refusals that have to do with data sets."""

from service.errors import ServiceError


class DatasetNotFound(ServiceError):
    code, status, title = "dataset_not_found", 404, "The project has no such data set"


class DatasetInUse(ServiceError):
    code, status, title = "dataset_in_use", 409, "Jobs refer to the data set"
