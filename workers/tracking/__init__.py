"""What a run says of itself, told in the background: nothing here may delay a training step or end it."""
