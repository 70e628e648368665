"""Files that clients send straight into the object store."""
