"""What is said of the device and its memory."""

import torch

from workers.training.backend import device_name, peak_memory_bytes

CPU = torch.device("cpu")


def test_a_cpu_has_a_name() -> None:
    assert device_name(CPU).strip()


def test_the_peak_of_memory_is_in_bytes_and_never_falls() -> None:
    before = peak_memory_bytes(CPU)
    filled = torch.ones(64 << 20)  # 256 MiB
    during = peak_memory_bytes(CPU)
    del filled

    assert before > 10 << 20  # no Python with PyTorch is smaller: these are bytes
    assert before <= during <= peak_memory_bytes(CPU)
    assert during < 1 << 40
