"""What every route shares: keys, problems, request ids, readiness."""
