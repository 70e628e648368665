"""Which checkpoint of a training is the best, by its evaluations."""

from service.cli.errors import CommandFailed, CommandMisused
from service.cli.hints import command
from service.client import Client
from service.jobs.views import Job
from workers.contract.curves import WHAT_IS_BEST, best_checkpoint, is_best_where_lowest


def chosen(client: Client, training: Job, at: int | None, best: str | None) -> int | None:
    """Images seen at the checkpoint that `--at` or `--best` names; None: the newest."""
    require_one(at, best)
    if best is None:
        return at
    if not is_best_where_lowest(best):
        raise CommandMisused(f"--best {best}: {WHAT_IS_BEST}")
    there = {each.images_seen for each in client.jobs.checkpoints(training.id)}
    found = best_checkpoint(best, client.jobs.evaluations(training.id), among=there)
    if found is None:
        shows = command(f"metrics {training.id}")
        raise CommandFailed(f"{training.id} has no checkpoint of which {best} is known: {shows} lists its curves")
    return found


def require_one(at: int | None, best: str | None) -> None:
    """Raises CommandMisused: both name a checkpoint."""
    if at is not None and best is not None:
        raise CommandMisused("--at and --best name two checkpoints: give one of them")
