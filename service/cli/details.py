"""One job, a plan, a queue, a fork in words, for people."""

import json
from collections.abc import Sequence
from typing import Any

from service.cli.hints import command
from service.cli.text import (
    checkpoint,
    created_by,
    duration,
    images,
    labels,
    last_checkpoint,
    local,
    losses,
    optional,
    resumed,
    speed,
    spent,
    state,
    table,
    why,
)
from service.jobs.planning_views import Plan, QueueEntry, Used
from service.jobs.result_views import Attempt
from service.jobs.views import Change, Condition, EvaluateEach, Job
from workers.contract.jobs import AnySpec
from workers.contract.records import Progress


def job(found: Job, attempts: Sequence[Attempt], comparison: Job | None) -> str:
    """Everything about one job that fits on a screen."""
    rows = [
        ("job", found.id),
        ("kind", _kind(found.spec)),
        ("name", found.name or ""),
        ("labels", labels(found)),
        ("project", found.project if found.project != "default" else ""),
        ("state", state(found)),
        ("queue", f"place {found.queue_position}" if found.queue_position else ""),
        ("priority", found.priority),
        ("images", images(found)),
        ("speed", speed(found)),
        ("losses", losses(found.progress)),
        ("last checkpoint", last_checkpoint(found)),
        ("resumed", resumed(found.progress)),
        ("time", spent(attempts)),
        ("device", (found.progress and found.progress.device) or ""),
        ("memory", _memory(found)),
        ("network", _network(found.progress)),
        ("at most", duration(found.max_runtime_seconds) if found.max_runtime_seconds else ""),
        ("comes from", f"{found.parent.job_id} at {found.parent.images_seen:,} images" if found.parent else ""),
        ("weights", found.spec.weights or "" if found.spec.kind in ("sample", "evaluate") else ""),
        ("control", found.control_job_id or ""),
        ("comparison", _comparison(found, comparison)),
        ("evaluations", _evaluations(found.evaluations)),
        ("created", local(found.created_at)),
        ("by", _creator(found)),
        ("started", local(found.started_at)),
        ("ended", local(found.ended_at)),
        ("archived", local(found.archived_at)),
        ("with changes", _another(found)),
        ("unclean", "once taken by force, without a last checkpoint" if found.unclean else ""),
        ("MLflow", found.mlflow_url or ""),
        *((condition.type, _condition(condition)) for condition in found.conditions),
        *((f"attempt {attempt.number}", _attempt(attempt)) for attempt in attempts),
        ("possible", ", ".join(found.allowed)),
    ]
    return table((name, value) for name, value in rows if value)


def _kind(spec: AnySpec) -> str:
    """With the jobs that it is about."""
    match spec.kind:
        case "sample" | "evaluate":
            return f"{spec.kind} of {spec.checkpoint.job_id if spec.checkpoint else spec.weights}"
        case "compare":
            return f"compare of {spec.job_id} and {spec.control_job_id}"
        case _:
            return spec.kind


def _memory(found: Job) -> str:
    if not (found.progress and found.progress.peak_memory_bytes):
        return ""
    of = "GPU" if found.spec.compute.accelerator == "gpu" else "process"
    return f"{found.progress.peak_memory_bytes / 2**30:.2f} GiB at most, of the first worker's {of}"


def _network(progress: Progress | None) -> str:
    return f"{progress.num_parameters:,} parameters" if progress and progress.num_parameters else ""


def _evaluations(planned: EvaluateEach | None) -> str:
    if planned is None:
        return ""
    when = f"every {planned.every_images:,} images" if planned.every_images else "at every checkpoint"
    return f"{when}, {planned.num_images:,} images drawn each time"


def _comparison(found: Job, comparison: Job | None) -> str:
    """With the control of this training, if it has one."""
    if comparison:
        return f"{comparison.id}, {state(comparison)}: {command(f'results {comparison.id}')}"
    return "follows once this and its control are trained and evaluated" if found.control_job_id else ""


def _another(failed: Job) -> str:
    """How to change what a job has failed by, where it has no checkpoint to fork."""
    if failed.state != "failed" or checkpoint(failed.progress):
        return ""
    if failed.spec.kind == "train" and failed.parent:
        fork = f"fork {failed.parent.job_id} --at {failed.parent.images_seen} --set KEY=VALUE"
        return f"{command(fork)} goes on from there"
    return f"{command(f'submit --like {failed.id} --set KEY=VALUE')} begins anew"


def plan(planned: Plan) -> str:
    """What would become of a job."""
    expected = planned.estimate
    memory = f"{expected.peak_memory_bytes / 2**30:.1f} GiB" if expected.peak_memory_bytes else ""
    rows = [
        ("document", f"valid, sha256 {planned.spec_sha256[:12]}"),
        ("queue", f"position {planned.queue_position}"),
        ("images", f"{planned.spec.total_images:,}" if planned.spec.total_images else ""),
        ("speed", f"{expected.images_per_second:,.0f} images/s" if expected.images_per_second else ""),
        ("time", duration(expected.seconds) if expected.seconds else ""),
        ("memory", memory),
        ("basis", expected.basis),
        *(("warning", warning) for warning in planned.warnings),
    ]
    return table((name, value) for name, value in rows if value)


def queue(waiting: Sequence[QueueEntry], *, all_projects: bool = False) -> str:
    project = optional("PROJECT", all_projects)
    head = ("PLACE", "JOB", *project, "KIND", "NAME", "CREATED BY", "PRIORITY", "WORKERS", "SINCE", "WHY IT WAITS")
    rows = (
        (
            *(str(entry.queue_position), entry.id, *optional(entry.project, all_projects)),
            *(entry.kind, entry.name or ""),
            *(created_by(entry), entry.priority),
            *(f"{entry.workers} {entry.accelerator}", local(entry.queued_at)),
            why(entry.reason, entry.message),
        )
        for entry in waiting
    )
    return table([head, *rows])


def usage(found: Sequence[Used], *, all_projects: bool = False) -> str:
    head = (*optional("PROJECT", all_projects), "CREATED BY", "JOBS", "HOURS", "OF")
    rows = (
        (
            *optional(used.project, all_projects),
            *(created_by(used), str(used.jobs), f"{used.worker_seconds / 3600:.1f}"),
            "GPUs" if used.accelerator == "gpu" else "CPU workers",
        )
        for used in found
    )
    return table([head, *rows])


def changes(found: Sequence[Change]) -> str:
    """In what a fork differs from where it comes from, a line each."""
    lines = (
        f"  {change.pointer.strip('/').replace('/', '.')}: {_value(change.before)} -> {_value(change.after)}"
        for change in found
    )
    return "\n".join(lines) or "  nothing is changed"


def _creator(found: Job) -> str:
    name, creator = found.created_by_name, found.created_by or ""
    return f"{name} ({creator})" if name else creator


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _condition(condition: Condition) -> str:
    message = f" ({condition.message})" if condition.message else ""
    return f"{'yes' if condition.status else 'no'} since {local(condition.since)}{message}"


def _attempt(attempt: Attempt) -> str:
    span = f"{local(attempt.created_at)} to {local(attempt.ended_at) or 'now'}"
    came_from = f", from {attempt.from_images:,} images" if attempt.from_images else ""
    reason = why(attempt.reason, attempt.message)
    return f"{span}{came_from}{f': {reason}' if reason else ''}"
