"""Weights for jobs out of a published snapshot of EDM or CDM. A job starts from them by `initial_weights`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import assert_never

from workers.contract.locations import bucket_and_key, is_path, of_a_file
from workers.contract.networks import ADM, EDM2, MLP, DDPMpp, NCSNpp, Network
from workers.data.fetching import elsewhere, fetched
from workers.networks.edm_pickle import SnapshotError
from workers.networks.edm_snapshot import PublishedNetwork, read_snapshot
from workers.tools.refusals import refusals
from workers.training.weights import refuse_output, save_weights
from workers.training.weights_header import WeightsHeader


@refusals()
def convert(source: str, output: Path, *, force: bool = False) -> str:
    """Write the weights of a snapshot (a path, https://... or s3://...) to a safetensors file; return what they are of.

    `force`: replace the output if it is there already. Nothing in the snapshot is executed.

    Raises:
        UsageError: it is no snapshot or cannot be had, or the output cannot be written.
    """
    refuse_output(output, force=force)  # before the snapshot is read, which takes a while
    with _on_this_machine(source) as (path, name):
        snapshot = read_snapshot(path)
    save_weights(output, snapshot.tensors, _header(snapshot, name))
    return _in_words(snapshot)


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
