"""Make a weights file of a snapshot of EDM or CDM: `python -m workers.jobs.convert SNAPSHOT.pkl -o FILE.safetensors`.

A job starts from it by `initial_weights`. Nothing in the snapshot is executed.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import assert_never

from workers.contract.locations import bucket_and_key, is_path, of_a_file
from workers.contract.networks import ADM, EDM2, MLP, DDPMpp, NCSNpp, Network
from workers.data.fetching import elsewhere, fetched
from workers.networks.edm_pickle import SnapshotError
from workers.networks.edm_snapshot import PublishedNetwork, read_snapshot
from workers.training.weights import refuse_output, save_weights
from workers.training.weights_header import WeightsHeader

EXIT_USAGE = 2


def main() -> int:
    """Run the command line; 0 = written, 2 = impossible, and one line says why."""
    parser = argparse.ArgumentParser(prog="python -m workers.jobs.convert", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("snapshot", metavar="SNAPSHOT.pkl", help="network-snapshot-*.pkl; or https://..., s3://...")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.safetensors", help="what is written")
    parser.add_argument("--force", action="store_true", help="replace the output if it is there already")
    arguments = parser.parse_args()
    try:
        refuse_output(arguments.output, force=arguments.force)  # before the snapshot is read, which takes a while
        with _on_this_machine(arguments.snapshot) as (path, name):
            snapshot = read_snapshot(path)
        save_weights(arguments.output, snapshot.tensors, _header(snapshot, name))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return EXIT_USAGE
    sys.stdout.write(f"{arguments.output}: {_in_words(snapshot)}\n")
    return 0


@contextmanager
def _on_this_machine(source: str) -> Iterator[tuple[Path, str]]:
    """Where it can be read, and its name."""
    if is_path(source):
        yield Path(source), Path(source).name
        return
    if not (source.startswith("https://") or bucket_and_key(source)):
        raise ValueError(f"{source}: give a path, https://host/file or s3://bucket/key")
    remote = elsewhere(of_a_file(source), is_known=False)
    with fetched(remote, None, on_bytes=lambda _done, _total: None) as (file, name):
        try:
            yield file, name.rpartition("/")[2]
        except SnapshotError as error:
            raise SnapshotError(str(error).replace(str(file), name)) from None


def _header(snapshot: PublishedNetwork, source: str) -> WeightsHeader:
    return WeightsHeader(
        network=snapshot.network,
        preconditioning=snapshot.preconditioning,
        sigma_data=snapshot.sigma_data,
        **snapshot.inputs.model_dump(),
        extra={"source": source},
    )


def _in_words(snapshot: PublishedNetwork) -> str:
    inputs, given = snapshot.inputs, snapshot.preconditioning
    parameters = sum(tensor.numel() for name, tensor in snapshot.tensors.items() if not name.endswith(".freqs"))
    return ", ".join(
        (
            f"{_published_name(snapshot.network)} ({snapshot.network.kind})",
            f"{parameters:,} parameters",
            f"{inputs.resolution}x{inputs.resolution} with {inputs.image_channels} channels",
            f"{inputs.num_classes} classes" if inputs.num_classes else "no classes",
            f"{inputs.augmentation_features} augmentation labels",
            f"{given.kind} preconditioning"
            + (f" with sigma_data {snapshot.sigma_data:g}" if given.kind == "edm" else ""),
        )
    )


def _published_name(network: Network) -> str:
    match network:
        case DDPMpp():
            return "DDPM++"
        case NCSNpp():
            return "NCSN++"
        case ADM():
            return "ADM"
        case EDM2():
            return "EDM2"
        case MLP():
            return "MLP"
        case _:
            assert_never(network)


if __name__ == "__main__":
    sys.exit(main())
