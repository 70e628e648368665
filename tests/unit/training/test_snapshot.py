"""A file that tensors are copied into is one that safetensors reads."""

from itertools import product

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from workers.training.snapshot import TensorFile, refuse_unstorable

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
INTEGERS = (torch.int64, torch.int32, torch.int8, torch.uint8)
KINDS = (*FLOATS, *INTEGERS, torch.bool)
SHAPES = ((), (0,), (3,), (2, 0, 5), (4, 3, 2, 2))


def tensors(*, seed: int) -> dict[str, Tensor]:
    """Of every kind and shape, under names of any script."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"Gewicht {kind} × {shape}": (100 * torch.randn(shape, generator=generator)).to(kind)
        for kind, shape in product(KINDS, SHAPES)
    }


def of(contents: dict[str, Tensor]) -> TensorFile:
    file = TensorFile(contents)
    file.copy(contents)
    return file


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]) for name in ours
    )


def test_safetensors_reads_what_was_copied_into_it() -> None:
    contents = tensors(seed=0)

    assert same(safetensors.torch.load(bytes(of(contents).data)), contents)


def test_it_is_as_large_as_what_safetensors_writes_and_laid_out_like_it() -> None:
    """So nothing can be smaller; the order of tensors within a kind is free."""
    contents = {name: tensor for name, tensor in tensors(seed=0).items() if tensor.numel()}

    assert len(of(contents).data) == len(safetensors.torch.save(contents))


def test_what_is_copied_next_replaces_what_was_there() -> None:
    before, after = tensors(seed=0), tensors(seed=1)
    file = of(before)

    file.copy(after)

    assert same(safetensors.torch.load(bytes(file.data)), after)


def test_a_tensor_of_another_memory_format_is_written_in_the_order_of_its_dimensions() -> None:
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)

    assert same(safetensors.torch.load(bytes(of({"weight": weight}).data)), {"weight": weight})


@pytest.mark.parametrize("kind", [torch.complex64, torch.int16])
def test_a_network_with_a_tensor_that_is_not_kept_or_shared_is_refused_by_its_name(kind: torch.dtype) -> None:
    network = nn.Linear(2, 2)
    network.register_buffer("mask", torch.ones(2, dtype=torch.bool))
    refuse_unstorable(network)
    network.register_buffer("table", torch.ones(2, dtype=kind))

    with pytest.raises(ValueError, match=rf"network: table is of {kind}, .*; use one of float64, float32"):
        refuse_unstorable(network)


def test_what_it_holds_can_be_read_and_not_written_to() -> None:
    data = of(tensors(seed=0)).data

    assert data.readonly
    with pytest.raises(TypeError):
        data[0] = 0
