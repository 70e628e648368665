"""Jobs: what happens around a training run, from the claim of an attempt to its outcome. Only here is Ray known."""
