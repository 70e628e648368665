"""What a driver spends before it is at work."""

import gc
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from workers.environment import imports_to_stay

WRONG_SPEC = """
import sys
from workers.__main__ import main
print(main(), sorted({"torch", "ray"} & {*sys.modules}))
"""


def test_what_is_wrong_with_a_spec_is_said_before_pytorch_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text('{"kind": "train", "seed": "x"}')

    command = [sys.executable, "-c", WRONG_SPEC, str(path)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)

    assert told.stdout == "2 []\n"
    assert "seed" in told.stderr


def test_the_collector_rests_only_while_modules_come_and_passes_them_by_afterwards() -> None:
    with suppress(ImportError), imports_to_stay():
        assert not gc.isenabled()
        raise ImportError

    assert gc.isenabled()
    assert gc.get_freeze_count()
    gc.unfreeze()
