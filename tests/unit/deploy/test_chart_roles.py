"""Keys of S3 by a role of the pod (`s3.credentials: ambient`)."""

import botocore.session
import pytest

from tests.support.chart import pods, rendered


@pytest.mark.parametrize("component", ["api", "mlflow", "ray-cpu"])
def test_the_address_of_an_s3_server_is_not_taken_for_that_of_other_services(
    component: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = rendered("production", **{"s3.endpointUrl": "https://s3.example.org"})
    for variable in pods(documents)[component]["spec"]["containers"][0]["env"]:
        if variable["name"].startswith("AWS_"):
            monkeypatch.setenv(variable["name"], variable["value"])

    s3, sts = (botocore.session.get_session().create_client(name) for name in ("s3", "sts"))

    assert s3.meta.endpoint_url == "https://s3.example.org"
    assert sts.meta.endpoint_url == "https://sts.eu-central-1.amazonaws.com"
