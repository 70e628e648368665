"""Images out of a committed checkpoint, shared over workers in pieces that are stored one by one."""
