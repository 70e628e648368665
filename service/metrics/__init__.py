"""The curves of jobs: down-sampled from MLflow, and row by row from the object store while they are drawn."""
