"""A Ray cluster for tests: nodes of one CPU each, simulated on this machine."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

OBJECT_STORE_BYTES = 150 * 2**20
# Ray takes 127.0.0.1 for the machine's address in its network.
LOOPBACK = "127.0.0.2"


@dataclass
class Nodes:
    """A running cluster with a head that has no CPUs, and its nodes."""

    cluster: Any

    @property
    def address(self) -> str:
        """The address of its head."""
        return str(self.cluster.address)

    def add(self) -> Any:
        """Add a node of one CPU."""
        own = {"node_ip_address": LOOPBACK, "object_store_memory": OBJECT_STORE_BYTES}
        return self.cluster.add_node(num_cpus=1, **own)

    def remove(self, node: Any) -> None:
        """Kill a node with all that runs on it."""
        self.cluster.remove_node(node, allow_graceful=False)

    def workers(self) -> list[int]:
        """Return the processes that execute shards now, on all nodes."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes()
            except OSError:  # it has ended
                continue
            if command.startswith(b"ray::execute_shard"):
                found.append(int(process.name))
        return found


@contextlib.contextmanager
def started(nodes: int) -> Iterator[Nodes]:
    """Start a cluster with so many nodes, until the context ends."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own = {"num_cpus": 0, "node_ip_address": LOOPBACK, "include_dashboard": False}
    cluster = Cluster(
        initialize_head=True, connect=False, head_node_args={**own, "object_store_memory": OBJECT_STORE_BYTES}
    )
    found = Nodes(cluster)
    for _ in range(nodes):
        found.add()
    try:
        yield found
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    """Give a cluster with two nodes."""
    pytest.importorskip("ray", reason="Ray is not installed")
    with started(2) as found:
        yield found
