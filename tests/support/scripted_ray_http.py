"""The HTTP side of `ScriptedRay`: the paths and documents of Ray 2.60, and the faults as a client feels them."""

import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from service.cluster.base import NO_RESOURCES, RunStatus
from tests.support.answering import answering
from tests.support.scripted_ray import Call, CallName, Fault, Job, ScriptedRay

_MAX_AGENT_BYTES = 1 << 20
_PATIENCE_SECONDS = 300.0  # longer than any client's
_ONE_JOB = re.compile(r"/api/jobs/(?P<id>[^/]+)(?P<what>/stop|/logs)?")
_NO_AGENT = "No available agent to submit job, please try again later."
_NEEDS_AGENT = {CallName.SUBMIT, CallName.PROBE, CallName.STOP, CallName.DELETE}


@contextmanager
def scripted_ray(*, token: str | None = None) -> Iterator[ScriptedRay]:
    """Serve one until the end of the block, which raises what went wrong in the server, hooks included."""
    ray = ScriptedRay(token=token)
    server = _Server(ray)
    ray.url = f"http://127.0.0.1:{server.server_port}"
    with answering(server):
        try:
            yield ray
        finally:
            server.closing.set()
    if ray.errors:
        raise BaseExceptionGroup("errors of the scripted Ray", ray.errors)


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    body: bytes
    authorization: str | None

    def call(self) -> Call:
        match self.method, self.path:
            case "GET", "/api/version":
                return Call(CallName.SESSION)
            case "GET", "/api/jobs/":
                return Call(CallName.LIST)
            case "POST", "/api/jobs/":
                document = json.loads(self.body)
                is_probe = "entrypoint_label_selector" in document
                return Call(CallName.PROBE) if is_probe else Call(CallName.SUBMIT, document.get("submission_id"))
            case "GET", path if path.startswith(("/nodes", "/api/v0/")):
                return Call(CallName.CAPACITY)
            case _:
                return self._call_about_one()

    def _call_about_one(self) -> Call:
        found = _ONE_JOB.fullmatch(self.path)
        assert found, f"RayCluster never asks for {self.method} {self.path}"
        names = {
            ("GET", None): CallName.FIND,
            ("DELETE", None): CallName.DELETE,
            ("POST", "/stop"): CallName.STOP,
            ("GET", "/logs"): CallName.LOGS,
        }
        return Call(names[self.method, found["what"]], unquote(found["id"]))


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    content: Any  # a document, or text

    @property
    def body(self) -> bytes:
        return (self.content if isinstance(self.content, str) else json.dumps(self.content)).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, ray: ScriptedRay) -> None:
        self.ray = ray
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):  # clients may hang up
            self.ray.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet for head and body
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = _Request(self.command, urlsplit(self.path).path, body, self.headers.get("Authorization"))
        answer = _answer(self.server.ray, request)
        if isinstance(answer, Fault):
            if answer in {Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER}:
                self.server.closing.wait(_PATIENCE_SECONDS)
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", "text/plain" if isinstance(answer.content, str) else "application/json")
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)


def _answer(ray: ScriptedRay, request: _Request) -> _Answer | Fault:
    """Do what is asked, as far as the script lets it; a fault if there is no answer."""
    if ray.token is not None and request.authorization != f"Bearer {ray.token}":
        return _Answer(403 if request.authorization else 401, "Unauthorized")
    call = request.call()
    match ray.called(call):
        case None:
            return _do(ray, call, request)
        case Fault.ERROR_BEFORE:
            return _Answer(500, _traceback("ray.exceptions.RpcError: Timed out"))
        case Fault.NO_AGENT if call.name in _NEEDS_AGENT:
            return _Answer(500, _NO_AGENT)
        case Fault.UNKNOWN:
            return _unknown(call)
        case Fault.TIMEOUT_BEFORE | Fault.DROP_BEFORE as fault:
            return fault
        case Fault.TIMEOUT_AFTER | Fault.DROP_AFTER as fault:
            _do(ray, call, request)
            return fault
        case Fault.ERROR_AFTER:
            _do(ray, call, request)
            return _Answer(500, _traceback("aiohttp.client_exceptions.ServerDisconnectedError: Server disconnected"))
        case Fault.GARBAGE:
            _do(ray, call, request)
            return _Answer(200, "<html>Welcome to the wrong server</html>")
        case _:
            return _do(ray, call, request)


def _do(ray: ScriptedRay, call: Call, request: _Request) -> _Answer:
    match call.name:
        case CallName.SESSION:
            return _Answer(200, {"version": "4", "ray_version": "2.60.0", "session_name": ray.session})
        case CallName.PROBE:
            return _Answer(500, _relayed(400, _traceback("ValueError: Invalid label selector")))
        case CallName.SUBMIT:
            return _submit(ray, request.body)
        case CallName.LIST:
            with ray.lock:
                return _Answer(200, [*map(_job_document, ray.jobs.values()), *ray.foreign])
        case CallName.CAPACITY:
            return _Answer(200, _capacity(ray, request.path))
        case CallName.FIND | CallName.STOP | CallName.DELETE | CallName.LOGS:
            return _do_with_one(ray, call)


def _do_with_one(ray: ScriptedRay, call: Call) -> _Answer:
    job = ray.jobs.get(call.submission_id or "")
    if job is None:
        return _unknown(call)
    match call.name:
        case CallName.FIND:
            return _Answer(200, _job_document(job))
        case CallName.LOGS:
            return _Answer(200, {"logs": "".join(job.printed)})
        case CallName.STOP:
            return _Answer(200, {"stopped": ray.stop(job.submission_id)})
        case _:
            return _delete(ray, job)


def _delete(ray: ScriptedRay, job: Job) -> _Answer:
    if not (job.status.is_terminal or job.false_error):
        reason = f"Attempted to delete job '{job.submission_id}', but it is in a non-terminal state {job.status}."
        return _Answer(500, _relayed(500, _traceback(f"RuntimeError: {reason}")))
    ray.jobs.pop(job.submission_id, None)
    return _Answer(200, {"deleted": True})


def _submit(ray: ScriptedRay, body: bytes) -> _Answer:
    if len(body) > _MAX_AGENT_BYTES:
        reason = "aiohttp.web_exceptions.HTTPRequestEntityTooLarge: Request Entity Too Large"
        return _Answer(500, _relayed(500, _traceback(reason)))
    document = json.loads(body)
    if not all(isinstance(value, str) for value in document["metadata"].values()):
        return _Answer(400, _traceback("TypeError: metadata values must be strings"))
    submission_id = document["submission_id"]
    job = Job(submission_id, document["entrypoint"], document["metadata"], document["runtime_env"]["env_vars"])
    if ray.take(job):
        return _Answer(200, {"job_id": submission_id, "submission_id": submission_id})
    reason = f"ValueError: Job with submission_id {submission_id} already exists. Please use a different submission_id."
    return _Answer(500, _relayed(400, _traceback(reason)))


def _job_document(job: Job) -> dict[str, Any]:
    return {
        "type": "SUBMISSION",
        "job_id": None,
        "submission_id": job.submission_id,
        "status": RunStatus.FAILED if job.false_error else job.status,
        "entrypoint": job.entrypoint,
        "message": "The actor died unexpectedly before finishing this task." if job.false_error else job.message,
        "error_type": job.false_error or job.error_type,
        "metadata": job.metadata,
        "runtime_env": {"env_vars": job.environment},
    }


def _capacity(ray: ScriptedRay, path: str) -> dict[str, Any]:
    with ray.lock:
        holding = [job.holds for job in ray.jobs.values() if job.holds != NO_RESOURCES]
    if path != "/nodes":
        held = [{"CPU": held.cpus, "GPU": held.gpus} for held in holding] if path.endswith("actors") else []
        entries = [{"placement_group_id": None, "required_resources": one} for one in held]
        return {"data": {"result": {"result": entries}}}
    used = sum(holding, NO_RESOURCES)
    report = f"{used.cpus}/{ray.total.cpus} CPU\n{used.gpus}/{ray.total.gpus} GPU\n0B/20.44GiB memory"
    states = {"living": "ALIVE", "dead": "DEAD"}
    has = {"CPU": ray.total.cpus, "GPU": ray.total.gpus}
    nodes = [{"raylet": {"nodeId": name, "state": state, "resourcesTotal": has}} for name, state in states.items()]
    return {"data": {"summary": nodes, "nodeLogicalResources": {"living": report} if ray.accounts else {}}}


def _unknown(call: Call) -> _Answer:
    return _Answer(404, f"Job {call.submission_id} does not exist")


def _relayed(status: int, text: str) -> str:
    """What the dashboard makes of an agent's answer."""
    return _traceback(f"RuntimeError: Request failed with status code {status}: {text}.")


def _traceback(last_line: str) -> str:
    return f'Traceback (most recent call last):\n  File "job_head.py", line 134, in _raise_error\n{last_line}\n'
