"""A Ray job that holds CPUs by an actor until it is stopped: `python hold_cpus.py NUM_CPUS`."""

import sys
import time

import ray


class Holder:
    def is_there(self) -> bool:
        return True


def main() -> None:
    ray.init(log_to_driver=False)
    holder = ray.remote(num_cpus=float(sys.argv[1]))(Holder).remote()
    ray.get(holder.is_there.remote())
    print("holding", flush=True)  # noqa: T201
    time.sleep(1000)


if __name__ == "__main__":
    main()
