"""Where Kubernetes is told to pull images from."""

from typing import Any

from tests.support.chart import pods, rendered

OURS = {"api", "mlflow", "ray-head", "ray-cpu"}


def _images(**values: Any) -> dict[str, set[str]]:
    """By component, those of all its containers."""
    specs = {name: pod["spec"] for name, pod in pods(rendered("trial", **values)).items()}
    return {
        name: {container["image"] for container in (*spec.get("initContainers", []), *spec["containers"])}
        for name, spec in specs.items()
    }


def test_a_registry_holds_the_images_that_are_built_for_it_and_no_others() -> None:
    without, within = _images(), _images(**{"images.registry": "registry.example.org/team"})

    assert within.keys() == OURS | {"postgres", "s3"}
    for name, images in without.items():
        prefix = "registry.example.org/team/" if name in OURS else ""
        assert within[name] == {f"{prefix}{image}" for image in images}, name


def test_images_of_others_come_from_a_mirror_by_their_whole_names() -> None:
    mirrored = {"images.postgres.repository": "mirror.example.org/postgres", "images.registry": "registry.example.org"}

    assert _images(**mirrored)["postgres"] == {"mirror.example.org/postgres:17-alpine"}


def test_another_build_of_a_groups_image_is_of_the_same_release() -> None:
    documents = rendered("production", **{"images.worker.tag": "0.2.0"})

    (image,) = {container["image"] for container in pods(documents)["ray-h100"]["spec"]["containers"]}

    assert image == "registry.example.org/ml/cdm-train/worker:0.2.0-cuda"
