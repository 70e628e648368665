"""How far drawn images are from real ones: features of images, and distances between sets of features.

Pure numerics: nothing here knows of jobs, networks that draw, or where results go. Features are
Float[Tensor, "images dimensions"], a row per image; distances are computed in float64, where the features lie.
"""
