"""The control plane: takes jobs over REST, runs them on a Ray cluster, and never loses one."""
