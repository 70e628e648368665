"""Processes of a stack: started so that they die with us, and found again by a mark in their environment.

The mark is inherited by whatever a part starts, jobs included, and cannot be shed by a new session, as a process
group can. So "everything of this stack, and nothing else" is a question with an answer, even after we were killed.
"""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from service.embedded.errors import NotInstalled
from service.embedded.part import Part

try:
    import psutil
except ModuleNotFoundError:  # the command can do without as long as nobody asks for a stack
    raise NotInstalled from None

Process = psutil.Process

_MARK, _PART = "CDM_STACK", "CDM_STACK_PART"
_SET_PARENT_DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG

_libc = ctypes.CDLL(None)


def start(part: Part, *, environment: Mapping[str, str], mark: str, log: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Start a part in a session of its own, its output appended to `log`.

    Call it from the main thread: the kernel takes the end of the thread that forked for the end of the parent.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            part.command,
            env={**environment, **part.environment, _MARK: mark, _PART: part.name},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_dying_with(os.getpid(), part.orphaned),
        )


def marked(mark: str) -> dict[str, list[Process]]:
    """Every live process of a stack, by part, the part's own (its session leader) first."""
    found: dict[str, list[Process]] = {}
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            if environment.get(_MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.setdefault(environment.get(_PART, ""), []).append(process)
        except psutil.Error:  # ended meanwhile, or another user's
            continue
    for processes in found.values():
        processes.sort(key=lambda process: process.create_time())
    return found


def stop(children: Iterable[subprocess.Popen[bytes]], *, mark: str, grace_seconds: float) -> None:
    """End the children, then whatever is left of the stack; returns when nothing is."""
    children = list(children)
    for child in children:
        child.terminate()
    deadline = time.monotonic() + grace_seconds
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, deadline - time.monotonic()))
    kill(mark)
    for child in children:
        child.wait()


def kill(mark: str, *, grace_seconds: float = 0.0) -> None:
    """Kill every process of the stack, after giving those that are ending anyway a moment."""
    deadline = time.monotonic() + grace_seconds
    while processes := [process for group in marked(mark).values() for process in group]:
        if time.monotonic() >= deadline:
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        psutil.wait_procs(processes, timeout=0.1)


def identity() -> tuple[int, float]:
    """This process's number and the time it was made: numbers are given anew, the pair is not."""
    return os.getpid(), psutil.Process().create_time()


def is_alive(pid: int, created_at: float) -> bool:
    """Whether the process with that identity lives."""
    return _process(pid, created_at) is not None


def end(pid: int, created_at: float, *, grace_seconds: float) -> None:
    """Ask a process to end and wait; kill it if it does not in time."""
    process = _process(pid, created_at)
    if process is None:
        return
    process.terminate()
    if psutil.wait_procs([process], timeout=grace_seconds)[1]:
        process.kill()


def memory_bytes(process: Process) -> int:
    """Its share of the memory: what several processes hold in common is divided between them."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def _process(pid: int, created_at: float) -> Process | None:
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - created_at) < 1.0
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def _dying_with(parent: int, orphaned: signal.Signals) -> Callable[[], None]:
    def prepare() -> None:
        _libc.prctl(_SET_PARENT_DEATH_SIGNAL, orphaned)
        if os.getppid() != parent:  # it died before the kernel knew what to do then
            os.kill(os.getpid(), signal.SIGKILL)

    return prepare
