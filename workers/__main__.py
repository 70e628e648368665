"""Run one attempt at a job: `python -m workers SPEC [--attempt N] [--store URL]`.

SPEC is `<store>/jobs/<id>/spec.json`, as the control plane gives it to Ray, or any JSON or YAML file, which becomes the
job of its name in `--store`. Runs on Ray if RAY_ADDRESS is set, in torchrun's processes if it started this, else alone.
Running the same command again goes on from the last checkpoint.
"""

import argparse
import os
import sys
from contextlib import suppress
from threading import Event

from workers.environment import imports_to_stay
from workers.jobs.attempt import Job, UnreadableSpecError, open_job, refuse
from workers.jobs.failures import ClaimRefusedError, UsageError
from workers.logs import configure_logging
from workers.storage.errors import STORE_ERRORS

EXIT_FAILED, EXIT_USAGE, EXIT_CLAIM_REFUSED = 1, 2, 86


def main() -> int:
    """Run the command line; 0 = done or stopped with a checkpoint, 1 = failed, 2 = unusable, 86 = not ours to run."""
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("spec", metavar="SPEC", help="URL of a job's spec.json in a store, or a JSON or YAML file")
    parser.add_argument("--attempt", type=int, metavar="N", help="number of this attempt; default: the next free one")
    parser.add_argument("--store", default="cdm-runs", help="folder or store URL for a SPEC file (default: ./cdm-runs)")
    arguments = parser.parse_args()
    configure_logging()
    try:
        job = _opened(arguments)
        with imports_to_stay():  # seconds; what is wrong with the arguments has been said by now
            from workers.jobs.driver import run_here, run_on_ray
        run = run_on_ray if os.environ.get("RAY_ADDRESS") else run_here
        outcome = run(job, arguments.attempt, Event())
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_USAGE
    except ClaimRefusedError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_CLAIM_REFUSED
    sys.stdout.write(f"{outcome.status} at {outcome.images_seen} images {outcome.message}".rstrip() + "\n")
    return EXIT_FAILED if outcome.status == "failed" else 0


def _opened(arguments: argparse.Namespace) -> Job:
    try:
        return open_job(arguments.spec, arguments.store)
    except UnreadableSpecError as error:
        if arguments.attempt is not None:
            with suppress(*STORE_ERRORS):  # then it ends without a word, and is repeated
                refuse(error.job, arguments.attempt, str(error))
        raise


if __name__ == "__main__":
    sys.exit(main())
