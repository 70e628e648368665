"""What `cdm up`, `cdm down` and `cdm status` do."""

import os
import subprocess
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from service.embedded import api, processes, ray, seaweedfs
from service.embedded.documents import Connection, Keys, Run
from service.embedded.folder import Folder
from service.embedded.part import Part, url
from service.embedded.parts import check_installed, inherited_environment, parts
from service.embedded.ports import reserved
from service.embedded.supervision import Event, StackReady, answers, supervise

_STALE_SECONDS = 5.0  # what a killed `cdm up` left behind is ending by itself
_DOWN_SECONDS = 25.0
_LAST_LINES = 8


@dataclass(frozen=True, slots=True)
class PartStatus:
    """How a part is doing. Memory is proportional: what is shared between processes is counted once."""

    name: str
    title: str
    state: Literal["ready", "starting", "down"]
    pid: int | None
    address: str
    memory_bytes: int
    log: str


def up(folder: Folder, *, asked: Mapping[str, int], pause: Callable[[float], bool]) -> Generator[Event]:
    """Run the stack until `pause(seconds)` answers that it is enough, telling what happens. Ports by field of `Ports`.

    Raises:
        StackError: before anything is started if it cannot be; after everything is stopped if a part fails.
    """
    check_installed()
    folder.prepare()
    with folder.exclusive():
        keys = Keys.read(folder.keys) or Keys.generate()
        processes.kill(keys.mark, grace_seconds=_STALE_SECONDS)
        last = Run.read(folder.run)
        with reserved(asked, last=last.ports if last else None) as ports:
            keys.write(folder.keys)
            seaweedfs.write_identities(folder, keys)
            ray.forget_sessions(folder)
            Connection(url=url(ports.api), api_key=keys.api_key).write(folder.connection)
            pid, created_at = processes.identity()
            run = Run(pid=pid, created_at=created_at, ready=False, ports=ports)
            run.write(folder.run)
            for event in _supervised(folder, run, keys, pause):
                yield event
                if isinstance(
                    event, StackReady
                ):  # written when it has been told, so that who waits for it was told, too
                    run.model_copy(update={"ready": True}).write(folder.run)


def _supervised(folder: Folder, run: Run, keys: Keys, pause: Callable[[float], bool]) -> Generator[Event]:
    environment = inherited_environment()

    def launch(part: Part) -> subprocess.Popen[bytes]:
        return processes.start(
            part, environment=environment, mark=keys.mark, log=folder.log(part.name), folder=folder.root
        )

    everything = parts(folder, run.ports, keys)
    for part in everything:
        if folder.log(part.name).exists():
            os.replace(folder.log(part.name), folder.log(f"{part.name}.previous"))
    yield from supervise(everything, readiness=api.readiness(run.ports), mark=keys.mark, launch=launch, pause=pause)


def running(folder: Folder) -> Run | None:
    """The run that is going on, if any."""
    run = Run.read(folder.run)
    return run if run and processes.is_alive(run.pid, run.created_at) else None


def down(folder: Folder) -> bool:
    """End the stack of this folder and everything it started; False if there was nothing to end."""
    run, keys = running(folder), Keys.read(folder.keys)
    left = bool(keys and processes.marked(keys.mark))
    if run:
        processes.end(run.pid, run.created_at, grace_seconds=_DOWN_SECONDS)
    if keys:
        processes.kill(keys.mark)
    return bool(run) or left


def status(folder: Folder) -> tuple[PartStatus, ...]:
    """Each part, as it is now; empty if there never was a stack in this folder."""
    run, keys = Run.read(folder.run), Keys.read(folder.keys)
    if not run or not keys:
        return ()
    alive = processes.marked(keys.mark)
    return tuple(_status(folder, part, alive.get(part.name, [])) for part in parts(folder, run.ports, keys))


def last_lines(folder: Folder, part: Part) -> list[str]:
    """The end of a part's log."""
    return folder.log(part.name).read_text(errors="replace").splitlines()[-_LAST_LINES:]


def _status(folder: Folder, part: Part, alive: Sequence[processes.Process]) -> PartStatus:
    ready = bool(alive) and all(map(answers, part.probes))
    return PartStatus(
        name=part.name,
        title=part.title,
        state="ready" if ready else "starting" if alive else "down",
        pid=alive[0].pid if alive else None,
        address=part.address,
        memory_bytes=sum(map(processes.memory_bytes, alive)),
        log=str(folder.log(part.name)),
    )
