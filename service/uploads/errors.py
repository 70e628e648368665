"""Refusals that have to do with uploads."""

from service.errors import ServiceError


class UploadNotFound(ServiceError):
    code, status, title = "upload_not_found", 404, "There is no such upload"


class UploadInUse(ServiceError):
    code, status, title = "upload_in_use", 409, "Jobs that have not ended read the upload"


class UploadQuotaExceeded(ServiceError):
    code, status, title = "upload_quota_exceeded", 409, "The project may not send so much at a time"


class UploadsImpossible(ServiceError):
    code, status, title = "uploads_impossible", 409, "Clients cannot reach the object store"
