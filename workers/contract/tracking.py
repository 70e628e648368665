"""How a job is known in MLflow, to whoever writes there."""

EXPERIMENT = "cdm-train"
JOB_TAG, STORE_TAG = "cdm.job_id", "cdm.store"  # together they say which run is a job's
MAX_METRICS, MAX_PARAMS = 1000, 100  # that MLflow takes in one request
