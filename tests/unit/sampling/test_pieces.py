"""What pieces hold is put together again."""

from threading import Barrier

import pytest
import safetensors.torch
import torch

from workers.sampling.pieces import Piece, read_pieces
from workers.storage.memory import MemoryStore

WHOLE = torch.arange(5 * 3, dtype=torch.float32).reshape(5, 3)
COUNTS = [2, 2, 1]


class Meeting(MemoryStore):
    """Gives out all pieces but the first at once, and none before that."""

    def __init__(self) -> None:
        super().__init__()
        self._together = Barrier(len(COUNTS) - 1)

    def get(self, key: str) -> bytes:
        if key != "0":
            self._together.wait(10)
        return super().get(key)


@pytest.fixture
def pieces() -> list[Piece]:
    return [Piece(str(number), count, dict) for number, count in enumerate(COUNTS)]


def filled(store: MemoryStore, pieces: list[Piece]) -> MemoryStore:
    for piece, features in zip(pieces, WHOLE.split(COUNTS), strict=True):
        store.put(piece.key, safetensors.torch.save({"features": features.clone(), "pixels": torch.zeros(1)}))
    return store


def test_pieces_are_read_side_by_side_into_one(pieces: list[Piece]) -> None:
    assert torch.equal(read_pieces(filled(Meeting(), pieces), pieces, "features"), WHOLE)


def test_a_piece_of_another_size_is_not_repeated_until_it_fits(pieces: list[Piece]) -> None:
    store = filled(MemoryStore(), pieces)
    store.put("1", safetensors.torch.save({"features": torch.zeros(1, 3)}))

    with pytest.raises(ValueError, match=r"shape \[1, 3\] instead of \[2, 3\]"):
        read_pieces(store, pieces, "features")


def test_a_piece_that_is_gone_is_an_error(pieces: list[Piece]) -> None:
    store = filled(MemoryStore(), pieces)
    store.delete("1")

    with pytest.raises(FileNotFoundError):
        read_pieces(store, pieces, "features")
