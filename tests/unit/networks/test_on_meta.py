"""Networks without memory, as a driver builds them to see that they fit."""

import subprocess
import sys

BUILD = """
import sys, torch
from workers.contract.presets import PRESETS
from workers.networks import build
with torch.device("meta"):
    for spec in PRESETS.values():
        if spec.network.kind == "ddpmpp":
            build(spec.network, image_channels=3, resolution=64, num_classes=10, augmentation_features=9)
print(sorted({"torch._dynamo", "sympy"} & {*sys.modules}))
"""


def test_building_the_usual_one_does_not_import_the_compiler_which_takes_seconds() -> None:
    built = subprocess.run([sys.executable, "-c", BUILD], capture_output=True, text=True, timeout=100, check=False)

    assert built.stdout.strip() == "[]", built.stderr
