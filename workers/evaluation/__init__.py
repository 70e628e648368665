"""How good what a training makes is: features of images, distances between sets of them, drift, comparisons.

Nothing here loads a checkpoint or writes to a store: it is given images, denoisers and evaluations, and returns
numbers, plots and pages. Only the weights of feature networks are read here (`weights.py`). Features are
Float[Tensor, "images dimensions"], a row per image; distances are computed in float64, where the features lie.
"""
