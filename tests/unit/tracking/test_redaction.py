"""What counts as a secret, and that it is gone."""

from workers.tracking.redaction import Redaction

ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": "wJalr/XUtn+FEMI",
    "hf_token": "hf_abcdefgh",
    "DATABASE_PASSWORD": "correct horse",
    "MLFLOW_TRACKING_URI": "https://tracker:battery-staple@mlflow.test/path",
    "DEPLOY_KEY": "-----BEGIN-----\nMIIEowIBAAKCAQEA\n-----END-----\n",
    "TOKEN_SHORT": "true",
    "HOME": "/home/someone",
}


def test_values_of_variables_with_telling_names_are_replaced() -> None:
    redact = Redaction.of_environment(ENVIRONMENT)

    text = "hf_abcdefgh at wJalr/XUtn+FEMI, 'correct horse', battery-staple\nMIIEowIBAAKCAQEA in /home/someone: true"

    assert redact(text) == "[redacted] at [redacted], '[redacted]', [redacted]\n[redacted] in /home/someone: true"


def test_a_secret_that_contains_another_is_replaced_whole() -> None:
    redact = Redaction(["12345678", "12345678-and-more"])

    assert redact("a 12345678-and-more b 12345678 c") == "a [redacted] b [redacted] c"
    assert redact.longest == 17


def test_without_secrets_nothing_changes() -> None:
    assert Redaction([])("as it is") == "as it is"
