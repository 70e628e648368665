"""Training: one state, one loop, and everything that is done between its steps."""
