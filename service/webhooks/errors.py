"""Refusals of webhooks."""

from service.errors import ServiceError


class WebhookNotFound(ServiceError):
    code, status, title = "webhook_not_found", 404, "There is no such webhook"


class DeliveryNotFound(ServiceError):
    code, status, title = "delivery_not_found", 404, "The webhook has no such delivery"


class TooManyWebhooks(ServiceError):
    code, status, title = "too_many_webhooks", 409, "The project has all the webhooks it may have"
