"""The state folder and the files in it."""

from pathlib import Path

import pytest

from service.embedded import folder as folders
from service.embedded.documents import Connection, Keys
from service.embedded.errors import AlreadyRunning, FolderUnusable
from service.embedded.folder import Folder
from service.embedded.ray import forget_sessions


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a long path sends Ray's folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder.at(tmp_path / "state")
    folder.prepare()
    return folder


def test_the_folder_is_the_one_given_else_that_of_the_environment_else_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDM_HOME", str(tmp_path))

    assert Folder.at(Path("/given")).root == Path("/given")
    assert Folder.at(None).root == tmp_path
    monkeypatch.delenv("CDM_HOME")
    assert Folder.at(None).root == Path.home() / ".cdm"


def test_only_the_owner_may_look_into_the_folder(folder: Folder) -> None:
    assert folder.root.stat().st_mode & 0o777 == 0o700
    assert folder.ray.parent.stat().st_mode & 0o777 == 0o700


def test_ray_gets_a_short_folder_where_its_sockets_would_have_too_long_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/tmp")  # noqa: S108 (a name, nothing is written)
    long = Folder.at(tmp_path / ("a" * 100))

    assert Folder(Path("/home/ada/.cdm")).ray == Path("/home/ada/.cdm/ray")
    assert len(str(long.ray)) < 27
    assert long.ray == Folder.at(long.root).ray != Folder.at(tmp_path / ("b" * 100)).ray


def test_a_folder_that_cannot_be_written_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(FolderUnusable, match=rf"{tmp_path}/file/state.*Not a directory.*--home"):
        Folder.at(tmp_path / "file" / "state").prepare()


def test_a_full_disk_is_refused_with_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MIN_FREE_BYTES", 1 << 60)

    with pytest.raises(FolderUnusable, match=r"only .* GiB are free in the state folder .*free some space"):
        Folder.at(tmp_path).prepare()


def test_one_at_a_time_holds_the_folder_and_the_other_learns_where_the_stack_is(folder: Folder) -> None:
    Connection(url="http://127.0.0.1:8400", api_key="k").write(folder.connection)

    with (
        folder.exclusive(),
        pytest.raises(AlreadyRunning, match=rf"http://127\.0\.0\.1:8400.*`cdm down --home {folder.root}`"),
        folder.exclusive(),
    ):
        pass
    with folder.exclusive():
        pass


def test_keys_are_written_for_their_owner_only_and_read_back(folder: Folder) -> None:
    keys = Keys.generate()

    keys.write(folder.keys)

    assert folder.keys.stat().st_mode & 0o777 == 0o600
    assert Keys.read(folder.keys) == keys != Keys.generate()


def test_a_file_that_is_missing_or_damaged_reads_as_none(folder: Folder) -> None:
    assert Keys.read(folder.keys) is None
    folder.keys.write_text('{"mark": ')
    assert Keys.read(folder.keys) is None


def test_of_rays_sessions_the_last_one_is_kept(folder: Folder) -> None:
    for number in (1, 2, 3):
        (folder.ray / f"session_2026-11-0{number}_12-00-00_000000_1" / "logs").mkdir(parents=True)
    (folder.ray / "session_latest").symlink_to("session_2026-11-03_12-00-00_000000_1")

    forget_sessions(folder)

    assert {path.name for path in folder.ray.iterdir()} == {"session_2026-11-03_12-00-00_000000_1", "session_latest"}
