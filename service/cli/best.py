"""Which checkpoint of a training is the best, by its evaluations."""

from service.cli.errors import CommandFailed, CommandMisused
from service.cli.hints import command
from service.client import Client
from service.jobs.views import Job
from workers.contract.curves import LOWER_IS_BETTER, curve_points, is_best_where_lowest, is_of_checkpoints


def chosen(client: Client, training: Job, at: int | None, best: str | None) -> int | None:
    """Images seen at the checkpoint that `--at` or `--best` names; None: the newest."""
    require_one(at, best)
    if best is None:
        return at
    if not is_of_checkpoints(best) or not is_best_where_lowest(best):
        measures = ", ".join(LOWER_IS_BETTER)
        raise CommandMisused(f"--best {best}: name a curve of evaluations, as eval/KD-ENL0-1k, of one of {measures}")
    return _lowest(client, training, best)


def require_one(at: int | None, best: str | None) -> None:
    """Raises CommandMisused: both name a checkpoint."""
    if at is not None and best is not None:
        raise CommandMisused("--at and --best name two checkpoints: give one of them")


def _lowest(client: Client, training: Job, curve: str) -> int:
    """Of the checkpoints that are there still; of several values at one the last counts."""
    evaluations = sorted(client.jobs.evaluations(training.id), key=lambda each: each.ended_at)
    points, there = curve_points(evaluations), {each.images_seen for each in client.jobs.checkpoints(training.id)}
    values = {
        each.checkpoint.images_seen: points[each.job_id][curve]
        for each in evaluations
        if curve in points[each.job_id] and each.checkpoint.images_seen in there
    }
    if not values:
        shows = command(f"metrics {training.id}")
        raise CommandFailed(f"{training.id} has no checkpoint of which {curve} is known: {shows} lists its curves")
    return min(values, key=lambda images_seen: values[images_seen])
