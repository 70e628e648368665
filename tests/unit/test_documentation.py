"""What the documentation quotes is what the code and the benchmarks' pages say."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from service.cli.app import app
from workers.contract.consistency import Symmetric, Target
from workers.diffusion.objective import Terms
from workers.training.telemetry import BIN_NAMES, Window
from workers.training.world import World

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")], key=str)
_FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?:\.venv/bin/|docker compose exec (?:-T )?api )?cdm ([a-z].*)")
_ESTIMATORS = {
    "`null`": "DSM",
    "`symmetric`": "symmetric, 1/4 of the batch",
    "`asymmetric`": "asymmetric, 1/4",
    "`antithetic4`": "antithetic4, 1/4",
    "`target`": "target, 1/4",
    "`paper`": "paper",
}
_FOR_USERS = {"help", "quickstart", "serve", "down", "clean"}
_TOLD_BESIDE_STEPS = {
    "optimizer/learning_rate",
    "throughput/images_per_second",
    "time/checkpoint_seconds",
    "memory/peak_bytes",
    "eval/MEASURE-N",
    "eval/LOSS",
}


def test_the_readme_has_the_costs_of_estimators_as_they_were_measured() -> None:
    measured = {row[0]: (row[3], row[5].split()[0]) for row in rows("docs/benchmarks/step_cost.md")}
    readme = {row[0]: (row[2], row[3]) for row in rows("README.md") if row[0] in _ESTIMATORS}

    assert readme == {name: measured[row] for name, row in _ESTIMATORS.items()}
    theory, figure = measured["target"]
    assert f"On the whole batch, `target` is {theory} in theory and {figure} measured" in words("README.md")


def test_the_recipe_of_the_paper_has_its_cost_as_it_was_measured() -> None:
    cost = {row[0]: (row[3], row[5].split()[0]) for row in rows("docs/benchmarks/step_cost.md")}
    paper, ours = cost["paper"], cost["symmetric, 1/4 of the batch"]
    page = words("docs/recipes.md")

    assert f"at {paper[1]} times a plain step where ours is {ours[1]} (measured" in page
    assert f"; {paper[0]} and {ours[0]} in theory)" in page


def test_the_readme_has_the_errors_of_the_toy_as_they_were_measured() -> None:
    measured = {}
    for section in re.split(r"^## ", (ROOT / "docs/benchmarks/acceptance.md").read_text(), flags=re.MULTILINE):
        arms = {row[0]: row[3].split()[0] for row in _rows(section.partition("| ratio to DSM")[2])}
        if arms:
            case = section.partition(":")[0]
            measured[case] = (arms["symmetric"], arms.get("symmetric 1/4", "not run"))
    readme = {
        row[0].partition(":")[0].replace("nowhere, the ordinary case", "Ordinary"): (row[1], row[2])
        for row in rows("README.md")
        if re.match(r"[A-D]:|nowhere", row[0])
    }

    assert readme == measured


def test_the_page_about_curves_has_those_that_a_training_tells_of_its_steps() -> None:
    told = set(_TOLD_BESIDE_STEPS)
    for term in (Symmetric(estimator="symmetric"), Target(estimator="target")):
        window = Window(World.alone(torch.device("cpu")), term)
        window.add(Terms(torch.ones(1), torch.ones(1), torch.ones(1)), torch.tensor(1.0))
        measured = window.close()
        told |= {f"loss/{name}" for name in measured.losses} | measured.telemetry.keys()
    section = (ROOT / "docs/evaluation.md").read_text().partition("## Curves")[2].partition("\n## ")[0]
    named = {name for row in _rows(section) for name in re.findall(r"`([^`]+)`", row[0])}

    assert named == {re.sub(r"_by_sigma/.*", "_by_sigma/...", name) for name in told}
    assert all(f"`{name}`" in section for name in BIN_NAMES)


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_files_of_python_that_are_named_exist(page: str) -> None:
    files = {
        f"/{file.relative_to(ROOT)}" for part in ("service", "workers", "tests") for file in (ROOT / part).rglob("*.py")
    }

    for name in re.findall(r"`([\w/]+\.py)[`:]", words(page)):
        assert any(file.endswith(f"/{name}") for file in files), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist_with_the_options_that_are_given(page: Path) -> None:
    for line in commands(page.read_text()):
        words = shlex.split(line, comments=True)
        command = typer.main.get_command(app)
        while words and (inner := getattr(command, "commands", {}).get(words[0])):
            command, words = inner, words[1:]
        known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
        assert not getattr(command, "commands", None) or all(word.startswith("-") for word in words), line
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known | {"--help"}, line


def test_commands_are_found_on_the_pages_in_containers_and_within_others_too() -> None:
    found = {line for page in PAGES for line in commands(page.read_text())}

    assert {"up", "submit fashion16 --watch", "presets smoke --json"} <= found


def test_contributors_are_told_of_all_that_make_checks_and_measures() -> None:
    made = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    block = _FENCED.findall((ROOT / "CONTRIBUTING.md").read_text())[0]

    assert set(re.findall(r"^make ([a-z-]+)", block, re.MULTILINE)) == made - _FOR_USERS


def test_the_training_loop_of_the_page_trains_and_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (program,) = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "docs/own-code.md").read_text(), re.MULTILINE | re.DOTALL
    )
    monkeypatch.chdir(tmp_path)
    first, again = dict[str, Any](), dict[str, Any]()

    exec(program, first)  # noqa: S102 - it is our own page's, and to run it is what is tested
    exec(program, again)  # noqa: S102 - the same once more, as somebody does after a crash

    assert (first["drawn"].shape, bool(first["drawn"].isfinite().all())) == ((4, 1, 8, 8), True)
    assert first["state"].images_seen == again["state"].images_seen == 1280
    trained, restored = (each["state"].denoiser.network.layer.weight for each in (first, again))
    assert torch.equal(trained, restored)
    assert first["state"].optimizer.state_dict()["state"][0]["step"] == 20, "none was skipped"


def words(page: str) -> str:
    """Its text, however it is wrapped."""
    return " ".join((ROOT / page).read_text().split())


def rows(page: str) -> list[list[str]]:
    return list(_rows((ROOT / page).read_text()))


def _rows(text: str) -> Iterator[list[str]]:
    """The cells of all lines of tables."""
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("| ---"):
            yield [cell.strip() for cell in line.strip("| ").split("|")]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", _FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(text: str) -> Iterator[str]:
    """What follows `cdm`, in blocks and in the text."""
    blocks = "\n".join(_FENCED.findall(text)).replace("\\\n", " ").splitlines()
    inline = re.findall(r"`([^`]*)`", _FENCED.sub("", text))
    lines = [*blocks, *inline]
    within = [command for line in lines for command in re.findall(r"\$\(([^()]*)\)", line)]
    parts = [part.strip() for line in [*lines, *within] for part in re.split(r" && | \| ", line)]
    yield from (found[1] for part in parts if (found := _COMMAND.fullmatch(part)))
