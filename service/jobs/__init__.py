"""Training jobs: taking them, running them to their end, and telling how they fare."""
