"""The tables of the first release, which had no migrations: it made them when they were missing. Frozen."""

FIRST_TABLES = """
CREATE TABLE jobs (
    id VARCHAR NOT NULL, name VARCHAR, state VARCHAR NOT NULL, reason VARCHAR, message TEXT, spec TEXT NOT NULL,
    spec_sha256 VARCHAR NOT NULL, created_at VARCHAR(32) NOT NULL, started_at VARCHAR(32), ended_at VARCHAR(32),
    attempt INTEGER NOT NULL, fruitless_attempts INTEGER NOT NULL, progress TEXT, backend_reachable BOOLEAN,
    backend_message TEXT, backend_since VARCHAR(32), mlflow_run_id VARCHAR, mlflow_experiment_id VARCHAR,
    mlflow_due_until VARCHAR(32), PRIMARY KEY (id)
);
CREATE INDEX jobs_by_state ON jobs (state, id);
CREATE TABLE attempts (
    job_id VARCHAR NOT NULL, number INTEGER NOT NULL, submission_id VARCHAR NOT NULL, nonce VARCHAR NOT NULL,
    created_at VARCHAR(32) NOT NULL, from_images INTEGER NOT NULL, submitted_at VARCHAR(32), ended_at VARCHAR(32),
    log_due_until VARCHAR(32), PRIMARY KEY (job_id, number), FOREIGN KEY(job_id) REFERENCES jobs (id),
    UNIQUE (submission_id)
);
CREATE TABLE events (
    job_id VARCHAR NOT NULL, sequence INTEGER NOT NULL, type VARCHAR NOT NULL, state VARCHAR NOT NULL,
    attempt INTEGER NOT NULL, reason VARCHAR, message TEXT, created_at VARCHAR(32) NOT NULL,
    PRIMARY KEY (job_id, sequence), FOREIGN KEY(job_id) REFERENCES jobs (id)
);
"""
