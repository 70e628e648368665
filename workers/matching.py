"""Whether tensors are those of a network."""

from collections.abc import Mapping

from torch import Tensor

_SHOWN = 5


def tensor_mismatch(given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """How tensors differ from the expected ones in names and shapes, the first few of many; None if they do not."""
    wrong = [
        *(f"{name} is missing" for name in expected if name not in given),
        *(f"{name} is unexpected" for name in given if name not in expected),
        *(
            f"{name} has shape {[*given[name].shape]}, expected {[*tensor.shape]}"
            for name, tensor in expected.items()
            if name in given and given[name].shape != tensor.shape
        ),
    ]
    if len(wrong) > _SHOWN:
        wrong[_SHOWN:] = [f"and {len(wrong) - _SHOWN} more"]
    return "; ".join(wrong) or None
