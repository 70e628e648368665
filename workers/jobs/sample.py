"""A sample job: images of given seeds out of a trained network."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice

import torch
from torch import Tensor

from workers.contract.keys import GRID, RESULT, JobKeys
from workers.contract.sampling import ResolvedCheckpoint, ResolvedSource, Sampled, SampleSpec, WeightsFile
from workers.data.fetching import OnBytes
from workers.jobs.drawing import prepare_source
from workers.pictures import grid_png
from workers.sampling.archives import archive_of
from workers.sampling.drawing import SeededSampler
from workers.sampling.known_pixels import read_known_pixels
from workers.sampling.pieces import Piece, PieceRunner, cut, let_go, read_piece
from workers.sampling.source import load_source, open_source, resolved_source
from workers.storage import JobFiles, ObjectStore
from workers.training.run import Ending, Run

_GRID_IMAGES, _GRID_COLUMNS = 64, 8


def prepare_sampling(spec: SampleSpec, keys: JobKeys, store: ObjectStore, *, on_bytes: OnBytes) -> None:
    """Resolve which network it is, and see that everything to draw what is wanted is there.

    Raises:
        SpecError: it is not; the message names the field.
    """
    source = prepare_source(spec, keys, store, on_bytes=on_bytes)
    if spec.inpainting:
        read_known_pixels(spec.inpainting, source.shape, torch.device("cpu"), JobFiles(store, keys))


def run_sampling(run: Run, spec: SampleSpec, runner: PieceRunner) -> Ending:
    """Draw all images, piece by piece; the first worker makes files of them. Every process calls this."""
    store, device = runner.store, runner.world.device
    source = open_source(store, run.keys, resolved_source(store, run.keys))
    denoiser, seal = load_source(source, spec.compute, device)
    denoiser.register_forward_hook(lambda *_: runner.watchdog.beat())  # a piece may take longer than a watchdog waits
    known = None
    if spec.inpainting:
        known = read_known_pixels(spec.inpainting, source.shape, device, JobFiles(store, run.keys))
    drawn = Drawn(spec, run.keys, SeededSampler.of(spec, source, denoiser, device, known=known))
    if not runner.work_through(drawn.pieces):
        return Ending(runner.done, stopped=True, message=f"asked to stop; {runner.done} images are kept")
    if runner.world.is_first:
        with runner.watchdog.paused():
            drawn.conclude(store, source.resolved, seal)
    return Ending(spec.num_images)


class Drawn:
    """The images of a sample job, first in pieces, then as files."""

    def __init__(self, spec: SampleSpec, keys: JobKeys, seeded_sampler: SeededSampler) -> None:
        self._spec, self._keys, self._seeded_sampler = spec, keys, seeded_sampler
        self._parts = [
            range(spec.first_seed + part.start, spec.first_seed + part.stop)
            for part in cut(spec.num_images, spec.pass_images)
        ]
        self.pieces = [self._piece(seeds) for seeds in self._parts]

    def _piece(self, seeds: range) -> Piece:
        return Piece(
            self._keys.piece(f"images-{seeds.start:016d}"),
            len(seeds),
            lambda: {"pixels": self._seeded_sampler.draw(seeds)},
        )

    def conclude(self, store: ObjectStore, source: ResolvedSource, seal: str | None) -> None:
        """What was drawn from goes last: who sees it finds all the rest. Then the pieces have served."""
        labels = self._seeded_sampler.labels(range(self._parts[0].start, self._parts[-1].stop))
        sampled = Sampled(
            checkpoint=source if isinstance(source, ResolvedCheckpoint) else None,
            checkpoint_seal=seal,
            weights=source if isinstance(source, WeightsFile) else None,
            sampler=self._seeded_sampler.sampler,
            first_seed=self._spec.first_seed,
            num_images=self._spec.num_images,
            classes=self._seeded_sampler.classes,
            files=tuple(self._files(store, labels.tolist() if labels is not None else None)),
            ended_at=datetime.now(UTC),
        )
        store.put(self._keys.results + RESULT, sampled.model_dump_json(indent=2).encode())
        let_go(store, self._keys, source)

    def _files(self, store: ObjectStore, labels: Sequence[int] | None) -> Iterator[str]:
        if kind := self._spec.archive:
            with archive_of(kind, self._images(store), labels, num_images=self._spec.num_images) as data:
                store.put(self._keys.results + f"images.{kind}", data)
            yield f"images.{kind}"
        first = islice((pixels for _, images in self._images(store) for pixels in images), _GRID_IMAGES)
        store.put(self._keys.results + GRID, grid_png(torch.stack([*first]), _GRID_COLUMNS))
        yield GRID

    def _images(self, store: ObjectStore) -> Iterator[tuple[range, Tensor]]:
        for seeds, piece in zip(self._parts, self.pieces, strict=True):
            yield seeds, read_piece(store, piece.key)["pixels"]
