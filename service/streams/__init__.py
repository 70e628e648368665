"""What happens to jobs, told while it happens, as server-sent events."""
