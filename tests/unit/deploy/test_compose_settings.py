"""What an operator may tell the parts of docker-compose.yml, as Compose reads it. No engine is asked."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
FILES = {"api": "api.env", "migrate": "api.env", "ray-head": "ray.env", "ray-worker": "ray.env"}

Environments = dict[str, dict[str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The compose file, and the secrets that it asks for."""
    for file in ("docker-compose.yml", "docker-compose.gpu.yml"):
        shutil.copy(ROOT / file, tmp_path)
    compose = (ROOT / "docker-compose.yml").read_text()
    secrets = sorted(set(re.findall(r"\$\{(\w+):\?", compose)))
    (tmp_path / ".env").write_text("".join(f"{name}=secret-of-{name}\n" for name in secrets))
    return tmp_path


def _services(folder: Path, *files: str) -> dict[str, Any]:
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    nothing_else = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}

    def compose(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = ["docker", "compose", *arguments]
        return subprocess.run(
            command, cwd=folder, env=nothing_else, capture_output=True, text=True, timeout=60, check=False
        )

    if compose("version").returncode:
        pytest.skip("docker has no Compose")
    answer = compose(*(f"--file={file}" for file in files), "config", "--format", "json")
    assert answer.returncode == 0, answer.stderr
    services: dict[str, Any] = json.loads(answer.stdout)["services"]
    return services


def _environments(folder: Path) -> Environments:
    return {name: service.get("environment", {}) for name, service in _services(folder).items()}


def test_settings_reach_the_parts_that_read_them_and_no_others(folder: Path) -> None:
    before = _environments(folder)
    (folder / "api.env").write_text('CDM_MAX_ACTIVE_JOBS=32\nCDM_S3_SOURCES=["s3://bucket/prefix"]\n')
    (folder / "ray.env").write_text("NCCL_DEBUG=INFO\n")

    after = _environments(folder)

    added = {name: dict(after[name].items() - before[name].items()) for name in after}
    api, ray = {"CDM_MAX_ACTIVE_JOBS": "32", "CDM_S3_SOURCES": '["s3://bucket/prefix"]'}, {"NCCL_DEBUG": "INFO"}
    told = {"api": api, "migrate": api, "ray-head": ray, "ray-worker": ray}
    assert {name: settings for name, settings in added.items() if settings} == told


def test_nothing_that_the_compose_file_sets_can_be_set_otherwise(folder: Path) -> None:
    before = _environments(folder)
    for file in set(FILES.values()):
        said = {name for service, own in FILES.items() if own == file for name in before[service]}
        assert "AWS_ACCESS_KEY_ID" in said
        (folder / file).write_text("".join(f"{name}=elsewhere\n" for name in said))

    assert _environments(folder) == before


def test_the_files_need_not_be_there_and_never_come_into_git() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    ignored = (ROOT / ".gitignore").read_text().splitlines()

    assert {name: service["env_file"] for name, service in services.items() if "env_file" in service} == {
        name: [{"path": file, "required": False}] for name, file in FILES.items()
    }
    assert {f"/{file}" for file in FILES.values()} <= set(ignored)


def test_pytorch_for_gpus_comes_from_an_index_of_its_own(folder: Path) -> None:
    def indexes(*more: str) -> tuple[set[str], set[str]]:
        """Where the nodes' images get PyTorch, without and with the file for GPUs."""
        (folder / ".env").write_text(secrets + "".join(f"{line}\n" for line in more))
        found = _services(folder), _services(folder, "docker-compose.yml", "docker-compose.gpu.yml")
        cpu, gpu = ({one[name]["build"]["args"]["TORCH_INDEX"] for name in ("ray-head", "ray-worker")} for one in found)
        return cpu, gpu

    secrets = (folder / ".env").read_text()
    cpu = {"https://download.pytorch.org/whl/cpu"}

    assert indexes() == (cpu, {""})
    assert indexes("TORCH_CUDA_INDEX=https://example.org/cu") == (cpu, {"https://example.org/cu"})
    assert indexes("TORCH_INDEX=https://example.org/rocm") == ({"https://example.org/rocm"}, {""})
