"""Work in pieces that are stored one by one: shared over workers, and not done again after an interruption.

What a piece holds depends on nothing but the job's document, so that any number of workers makes the same ones.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import safetensors.torch
import torch
from torch import Tensor

from workers.contract.keys import JobKeys
from workers.contract.sampling import ResolvedCheckpoint, ResolvedSource
from workers.storage import ObjectStore
from workers.storage.ahead import STORE_STREAMS
from workers.training.watchdog import Watchdog
from workers.training.world import World

_LOOK_EVERY_SECONDS = 2.0

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the work: where its result lies, of how many images it is, and how it is made."""

    key: str
    num_images: int
    make: Callable[[], Tensors]
    passes: int = 1  # of each image through a network: what it costs beside the images of other pieces


@dataclass(slots=True)
class PieceRunner:
    """Pieces in the making. Every process of `world` goes through the same calls."""

    store: ObjectStore
    world: World
    watchdog: Watchdog
    wants_to_leave: Callable[[], bool]  # asked in every process at a time
    on_progress: Callable[[int, int, float], None]  # images done, of how many, and the share of the work
    done: int = 0  # images
    _looked_at: float = 0.0

    def work_through(self, pieces: Sequence[Piece]) -> bool:
        """Make the pieces that are not there yet, each process one at a time; False if asked to leave before that."""
        numbers = self.world.broadcast_object(self._missing(pieces) if self.world.is_first else None) or []
        missing = [pieces[number] for number in numbers]
        self._report(pieces, missing)
        for first in range(0, len(missing), self.world.size):
            if self._leaves():
                return False
            together = missing[first : first + self.world.size]
            if self.world.rank < len(together):
                piece = together[self.world.rank]
                self.store.put(piece.key, safetensors.torch.save({**piece.make()}))
            self._report(pieces, missing[first + self.world.size :])
        return not self._leaves(at_once=True)  # all are there before anybody reads them

    def _leaves(self, *, at_once: bool = False) -> bool:
        """The same in every process. Asking takes a moment, so it is done every two seconds at most.

        Who waits here for one with a long piece is not hung; of that one its own watchdog takes care.
        """
        with self.watchdog.paused():
            now = time.monotonic()
            if not self.world.broadcast_object(at_once or now - self._looked_at >= _LOOK_EVERY_SECONDS):
                return False
            self._looked_at = now
            return self.world.any(self.wants_to_leave())

    def _report(self, pieces: Sequence[Piece], missing: Sequence[Piece]) -> None:
        total = sum(piece.num_images for piece in pieces)
        self.done = self.watchdog.images_seen = total - sum(piece.num_images for piece in missing)
        self.on_progress(self.done, total, 1 - _passes(missing) / _passes(pieces))

    def _missing(self, pieces: Sequence[Piece]) -> list[int]:
        there: set[str] = set()
        for folder in {piece.key.rpartition("/")[0] for piece in pieces}:
            there |= {*self.store.list(folder + "/")}
        return [number for number, piece in enumerate(pieces) if piece.key not in there]


def _passes(pieces: Sequence[Piece]) -> int:
    return sum(piece.num_images * piece.passes for piece in pieces)


def let_go(store: ObjectStore, keys: JobKeys, source: ResolvedSource) -> None:
    """The result is written: pieces have served, and the checkpoint need not stay on account of this job.

    May be repeated.
    """
    for key in store.list(keys.pieces):
        store.delete(key)
    if isinstance(source, ResolvedCheckpoint):
        store.delete(JobKeys(source.job_id).pin(source.images_seen, source.attempt, keys.job_id))


def read_piece(store: ObjectStore, key: str) -> dict[str, Tensor]:
    """The tensors of a piece."""
    return safetensors.torch.load(store.get(key))


def read_pieces(store: ObjectStore, pieces: Sequence[Piece], name: str) -> Tensor:
    """One tensor of each piece, all of them in one: memory holds it once, and a few pieces on their way to it."""
    first = read_piece(store, pieces[0].key)[name]
    counts = [piece.num_images for piece in pieces]
    whole = first.new_empty(sum(counts), *first.shape[1:])

    def read(piece: Piece, place: Tensor) -> None:
        put(read_piece(store, piece.key)[name], place)

    def put(found: Tensor, place: Tensor) -> None:
        if found.shape != place.shape:  # which copying would repeat until it fits
            raise ValueError(f"{name} of a piece has the shape {[*found.shape]} instead of {[*place.shape]}")
        place.copy_(found)

    places = torch.split(whole, counts)
    put(first, places[0])
    with ThreadPoolExecutor(STORE_STREAMS) as pool:
        list(pool.map(read, pieces[1:], places[1:]))  # or its error
    return whole


def cut(total: int, size: int) -> list[range]:
    """The numbers from 0 up to `total`, `size` at a time."""
    return [range(first, min(first + size, total)) for first in range(0, total, size)]
