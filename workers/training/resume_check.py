"""Whether a resumed run is the run that was interrupted: its first losses beside those recorded of the same images."""

from collections.abc import Mapping

from workers.contract.compute import Workers
from workers.contract.records import Resume, ResumeVerdict

# What is compared, and how far another order of adding up may move it, relatively.
_FINE: tuple[tuple[str, ...], float] = ("loss/", "optimizer/gradient_norm"), 1e-3
# In few bits, the last one of a gradient decides how weights are rounded. In bfloat16, that was seen to move the
# denoising loss by up to 0.0017 in rows of 96 images, and the inconsistency and the gradient's norm by 0.02 and more.
_COARSE: tuple[tuple[str, ...], float] = ("loss/dsm",), 5e-3
_ENOUGH_ROWS = 20


class ResumeCheck:
    """Compares rows of metrics as they come, where they are means over the same images.

    They are, since checkpoints end a row; but not if a row was also ended by one that was urgent and never committed.
    """

    def __init__(
        self,
        images_seen: int,
        recorded: Mapping[int, Mapping[str, float]],
        *,
        is_coarse: bool = False,
        other_device: str | None = None,
        other_code: str | None = None,
    ) -> None:
        """`recorded`: rows by images seen, of what was trained beyond the checkpoint before the interruption.

        `is_coarse`: see `rounds_coarsely`. `other_device`: what that was trained on, if it draws other noise.
        `other_code`: the digest of what trained that, if it is another.
        """
        self._images_seen = images_seen
        self._recorded = recorded
        self._compared, self._tolerance = _COARSE if is_coarse else _FINE
        self._other_device = other_device
        self._other_code = other_code
        self._row_begun = images_seen
        self._num_rows = 0
        self._largest = 0.0

    def compare(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Values by the names that they are recorded under."""
        begun, self._row_begun = self._row_begun, images_seen
        before = self._recorded.get(images_seen)
        if before is None or self._num_rows >= _ENOUGH_ROWS:
            return
        if begun != max((seen for seen in self._recorded if seen < images_seen), default=self._images_seen):
            return
        differences = [
            abs(value - before[name]) / max(abs(before[name]), abs(value), 1e-12)
            for name, value in values.items()
            if name.startswith(self._compared) and name in before
        ]
        if differences:
            self._num_rows += 1
            self._largest = max(self._largest, *differences)

    @property
    def result(self) -> Resume:
        """What can be said so far."""
        return Resume(
            images_seen=self._images_seen,
            verdict=self._verdict(),
            compared_rows=self._num_rows,
            largest_difference=self._largest,
            other_device=self._other_device,
            other_code=self._other_code,
        )

    def _verdict(self) -> ResumeVerdict:
        if not self._num_rows:
            return "nothing_to_compare"
        if self._largest == 0:
            return "bit_exact"
        if self._largest <= self._tolerance:
            return "within_tolerance"
        return "nothing_to_compare" if self._other_device else "diverged"


def rounds_coarsely(compute: Workers) -> bool:
    """Its matrix products round to few bits, and a repetition does not add up in the same order for certain."""
    uses_tf32 = compute.accelerator == "gpu" and compute.tf32
    return (compute.precision == "bfloat16" or uses_tf32) and not compute.deterministic
