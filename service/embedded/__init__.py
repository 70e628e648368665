"""The whole service on one machine: an S3 server, MLflow, a Ray head and the API, started and watched by `cdm up`.

    folder      what is kept between runs, and where
    documents   the JSON files in it
    ports       which ports the parts get
    part        what a part is; seaweedfs, mlflow, ray and api say how each is started
    parts       all of them, for one folder
    processes   starting children that die with us, and finding every process of a stack
    supervision start, ask until ready, restart, stop
    stack       up, down and status

Nothing here imports Ray, MLflow or the API: each part is a process of its own.
"""
