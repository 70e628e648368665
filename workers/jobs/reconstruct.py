"""Rebuild an average of any width: `python -m workers.jobs.reconstruct JOB --relative-width 0.07 -o FILE`.

JOB is `<store>/jobs/<id>`, of a job that keeps power-function averages (`ema.kind: power`). Its checkpoints are read
and verified one file at a time. With `--plan` it only says which objects these are: whoever has no store fetches no
others (`cdm average`).
"""

import argparse
import sys
from pathlib import Path

from workers.jobs.attempt import job_in
from workers.jobs.averages import WIDEST, Reconstruction, planned, write
from workers.jobs.failures import UsageError
from workers.storage.errors import STORE_ERRORS
from workers.training.weights import refuse_output

EXIT_USAGE, EXIT_INTERRUPTED = 2, 130
_POOR = 0.05  # relative error of the profile


def main() -> int:
    """Run the command line; 0 = written, 2 = impossible (one line says why), 130 = Ctrl-C."""
    arguments = _arguments()
    output: Path = arguments.output
    try:
        refuse_output(output, force=arguments.force)
        job = job_in(arguments.job)
        plan = planned(job, relative_width=arguments.relative_width, images_seen=arguments.at)
        if arguments.plan:
            sys.stdout.writelines(f"{stored.key}\n" for _, stored in plan.parts)
            return 0
        write(plan, job, output)
    except (UsageError, *STORE_ERRORS) as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    error_of_profile = plan.combination.relative_error
    sys.stdout.write(
        f"{output}: relative width {plan.relative_width:g} at {plan.wanted.images_seen} images, from {len(plan.parts)} "
        f"of {len(plan.stored)} stored averages; relative error of the profile: {error_of_profile:.2g}\n"
    )
    if error_of_profile > _POOR:
        sys.stderr.write(f"warning: a poor reconstruction: {_mend(plan)}\n")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workers.jobs.reconstruct", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("job", metavar="JOB", help="<store>/jobs/<id>, the folder of a job in a store")
    parser.add_argument("--relative-width", type=float, required=True, metavar="WIDTH", help=f"above 0, below {WIDEST}")
    parser.add_argument("--at", type=int, metavar="IMAGES", help="images seen; default: those of the last checkpoint")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="a safetensors file")
    parser.add_argument("--force", action="store_true", help="replace the output if it is there already")
    parser.add_argument("--plan", action="store_true", help="only say the keys of what is read; write nothing")
    return parser.parse_args()


def _mend(plan: Reconstruction) -> str:
    """What would make it better. Between two checkpoints a profile has an end that no combination can have."""
    times = sorted({stored.profile.images_seen for stored in plan.stored})
    if plan.wanted.images_seen not in times:
        nearest = min(times, key=lambda time: abs(time - plan.wanted.images_seen))
        return f"there is no checkpoint at {plan.wanted.images_seen} images; the nearest is --at {nearest}"
    return (
        f"too few checkpoints ({len(times)}) for this width; choose one nearer to those of the job, or save more often"
    )


if __name__ == "__main__":
    sys.exit(main())
