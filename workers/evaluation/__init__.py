"""How good what a training makes is: features of images, distances between sets of them, drift, comparisons.

Nothing here draws, or writes to a store: it is given features, denoisers and evaluations, and returns what it finds.
The weights of feature networks alone are read from files (`weights.py`). Features are
Float[Tensor, "images dimensions"], a row per image; distances are computed in float64, where the features lie.
"""
