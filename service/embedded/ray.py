"""The Ray head: `ray start --head --block`, which SIGTERM ends cleanly.

Never `ray stop`: it ends every Ray on the machine, whoever started it.
"""

import shutil
import signal

from service.embedded.documents import Keys, Ports
from service.embedded.folder import Folder
from service.embedded.part import LOOPBACK, Part, Probe, program, url
from service.embedded.seaweedfs import client_environment

# Ray replaces 127.0.0.1 by the machine's outer address. This one it leaves alone, so nodes and agents stay on loopback
# and a laptop may change its network while it trains.
_NODE_ADDRESS = "127.0.0.2"
_OBJECT_STORE_BYTES = 256 << 20  # images and gradients do not go through it; by default it takes a third of the memory


def part(folder: Folder, ports: Ports, keys: Keys) -> Part:
    options = {
        "node-ip-address": _NODE_ADDRESS,
        "port": ports.ray_gcs,
        "dashboard-host": LOOPBACK,
        "dashboard-port": ports.ray_dashboard,
        "ray-client-server-port": ports.ray_client,
        # 52365 otherwise: where that is taken, Ray starts, and refuses every job.
        "dashboard-agent-listen-port": 0,
        "object-store-memory": _OBJECT_STORE_BYTES,
        "temp-dir": folder.ray,
    }
    flags = ("--head", "--block", "--disable-usage-stats", "--no-monitor")
    return Part(
        name="ray",
        title="Ray",
        address=url(ports.ray_dashboard),
        command=(program("ray"), "start", *flags, *(f"--{name}={value}" for name, value in options.items())),
        environment={**_head_environment(keys), **_job_environment(folder, ports, keys)},
        probes=(Probe(f"{url(ports.ray_dashboard)}/api/jobs/", headers={"Authorization": f"Bearer {keys.ray_token}"}),),
        orphaned=signal.SIGTERM,  # it has some twenty processes to end; killed, it leaves them for 17 s
    )


def forget_sessions(folder: Folder) -> None:
    """Remove what earlier heads wrote, but for the last one's logs: each start makes a folder, and Ray removes none."""
    for session in sorted(folder.ray.glob("session_2*"))[:-1]:
        shutil.rmtree(session, ignore_errors=True)


# Ray's job table is left in memory. Kept on disk (RAY_gcs_storage=rocksdb), it says of a job that died with the head
# that it runs, for minutes; a head that has forgotten the job is the proof the API needs to go on from its checkpoint.
def _head_environment(keys: Keys) -> dict[str, str]:
    return {
        # Its ports are open to the network, and whoever may submit a job may run anything.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": keys.ray_token,
        "RAY_raylet_start_wait_time_s": "180",  # a busy machine needs more than the usual 30
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "1",  # Ray Train leaves actors behind, for which it would wait 30
        "RAY_prestart_worker_first_driver": "0",  # 90 MiB; jobs bring environments, so theirs are others
        # Otherwise naming a process overwrites its environment, by which `processes` finds it.
        "SPT_NOENV": "1",
    }


def _job_environment(folder: Folder, ports: Ports, keys: Keys) -> dict[str, str]:
    """What jobs inherit from the head, so that no secret has to be written into one."""
    return {
        **client_environment(ports, keys),
        "MLFLOW_TRACKING_URI": url(ports.mlflow),
        "CDM_CACHE": str(folder.root / "cache"),
        "OMP_NUM_THREADS": "1",  # more threads than cores wait for each other: up to 7 times slower
        "GLOO_SOCKET_IFNAME": "lo",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # a lost worker is seen at once
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # nobody preempts this machine
    }
