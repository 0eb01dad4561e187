"""Executing shards on Ray: on this machine, or on the nodes of a cluster that runs already."""

import contextlib
import logging
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.launchers.elsewhere import Died, Ended, Event, Execution
from runner.launchers.node_record import RECORDERS, place_of, store_of
from runner.launchers.nodes import HARDWARE, check_arguments, check_this_node, description, difference, targets_of
from runner.launchers.rungs import reports_elsewhere_in_rungs
from runner.launchers.shard import RunReport, Shard
from runner.launchers.shards import Cutter
from runner.launchers.work import Work
from runner.messages.errors import RecordingError, UserError, one_line
from runner.messages.ranges import shown
from runner.process import signals

if TYPE_CHECKING:
    from runner.engine.batches import Member

KEY = "hydra.launcher"
INSTALL = "pip install ray"
# Ray itself tries for minutes.
CONNECT_SECONDS = 5
# How often Ray tries for half a minute each to connect to a head that answered just now.
CONNECT_TRIES = 1
# How a connection of gRPC begins: HTTP/2's preface and an empty frame of settings; the answer has settings too.
HTTP2_START = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
HTTP2_SETTINGS = bytes((4,))
# Updates are small and taken at once.
OBJECT_STORE_BYTES = 2**28
UPDATES_WAITING = 8
# For so long an answer about the nodes is used again: it takes a request to the head.
NODES_SECONDS = 1
# What a working directory has that no run needs, or that nobody else may see.
NOT_SENT = ["outputs", ".[!.]*", "*.db", "*.sqlite", "__pycache__", "multirun", "mlruns"]


@dataclass
class OnRay:
    """Executes shards as tasks of Ray.

    Attributes:
        address: of the head of a running cluster, as `host:port`; `auto` for one of this machine; None to start Ray
            here.
        num_cpus: of a shard.
        num_gpus: of a shard.
        shard_seconds: how long a shard should take.
        max_retries: how many workers may die of a shard before it is executed in parts.
        runtime_env: what Ray prepares on the nodes; None sends the working directory where the runs use own code.
        same_hardware: whether nodes that may give other digits are refused.
        memory_mib: the memory that the steps of a shard may take.
        record: who records the runs: `driver` or `nodes`.
    """

    address: str | None
    num_cpus: float
    num_gpus: float
    shard_seconds: float
    max_retries: int
    runtime_env: Mapping[str, Any] | None
    same_hardware: bool
    memory_mib: int
    record: str = RECORDERS[0]
    _cluster: "_Cluster | None" = field(default=None, init=False)

    @property
    def prunes(self) -> bool:
        """Whether the driver records the runs, and so knows which of their steps are recorded."""
        return not self.records_on_nodes

    @property
    def records_on_nodes(self) -> bool:
        """Whether the processes that execute shards record them, too."""
        return self.record == "nodes"

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Disconnect from the cluster when the context ends, and end a Ray that was started here.

        Raises:
            UserError: Ray is not installed, or nothing answers at the address.
        """
        ray = _ray()
        if self.address is not None:
            _check_answers(self.address)
        is_ours = not ray.is_initialized()  # by the user's own program
        try:
            yield
        finally:
            self._cluster = None
            if is_ours:
                ray.shutdown()

    def check(self, groups: "Sequence[Sequence[Member]]") -> None:
        """Connect to the cluster, or start Ray here, and check that all nodes can execute the runs.

        Raises:
            UserError: the cluster has another version, or a node has not what the runs need: the CPUs and GPUs, the
                memory, the user's modules.
        """
        targets = targets_of(groups)
        if targets:
            check_arguments(groups, "hydra/launcher=ray would send it to other processes")
        store = store_of(KEY, groups) if self.records_on_nodes else None
        if self._cluster is None:
            environment = dict(self.runtime_env or {})
            if targets and self.address is not None and self.runtime_env is None:
                environment = {"working_dir": str(Path.cwd()), "excludes": NOT_SENT}
            _connect(self.address, environment)
            folder = str(Path.cwd()) if self.address is None else None
            needs = {"CPU": self.num_cpus, "GPU": self.num_gpus}
            self._cluster = _Cluster(needs, folder, self.same_hardware)
        bytes_a_run = max((member.bytes_a_row for group in groups for member in group), default=0)
        self._cluster.check_nodes(targets, bytes_a_run, store)

    def reports(self, work: Work) -> Iterator[RunReport]:
        """Execute the runs on the nodes, and yield how each ended.

        Raises:
            RunnerError: the runs cannot continue, for a reason that is not a failure of one of them.
        """
        assert self._cluster is not None
        work.view.start_elsewhere(self._cluster.places)
        workers, most = self._cluster, self._cluster.most

        def cutter_of(groups: "Sequence[Sequence[Member]]") -> Cutter:
            return Cutter.of(groups, self.shard_seconds, most, self.memory_mib)

        if work.pruning is not None:
            return reports_elsewhere_in_rungs(work, work.pruning, workers, cutter_of, self.max_retries)
        place = place_of(work) if self.records_on_nodes else None
        return Execution(work, workers, cutter_of(work.groups), self.max_retries, place).reports()


def _connect(address: str | None, environment: Mapping[str, Any]) -> None:
    """Connect to a cluster, or start Ray on this machine.

    Raises:
        UserError: that fails.
    """
    ray = _ray()
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Or Ray hides GPUs from shards with num_gpus=0, with a warning.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    own: dict[str, Any] = {"address": address}
    if address is None:
        from runner.tensors.device import usable_cpus

        store = {"num_cpus": usable_cpus(), "object_store_memory": OBJECT_STORE_BYTES}
        own = {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1", **store}
    quiet = {"log_to_driver": False, "configure_logging": False, "logging_level": logging.CRITICAL}
    try:
        with (
            signals.restored(),
            _tries(ray, None if address is None else CONNECT_TRIES),
        ):  # Ray sets handlers of its own
            ray.init(runtime_env=environment or None, **own, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        ray.shutdown()
        raise UserError(f"{KEY}.address={shown(address)}: {one_line(error)}") from None


@contextlib.contextmanager
def _tries(ray: Any, most: int | None) -> Iterator[None]:
    """Let Ray try at most so often to connect to a head; None for as often as usual."""
    constants = ray._private.ray_constants
    usual = constants.NUM_REDIS_GET_RETRIES
    constants.NUM_REDIS_GET_RETRIES = usual if most is None else most
    try:
        yield
    finally:
        constants.NUM_REDIS_GET_RETRIES = usual


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise UserError(f"hydra/launcher=ray: Ray is not installed, expected it: {INSTALL}") from None
    return ray


def _check_answers(address: str) -> None:
    """Check that something answers at an address.

    Raises:
        UserError: it is no address, or nothing does.
    """
    host, _, port = address.rpartition(":")
    if address != "auto" and (not host or not port.isdigit() or "/" in host):
        raise UserError(f"{KEY}.address={shown(address)}: expected null, auto or host:port, such as 10.0.0.1:6379")
    from ray._private.services import canonicalize_bootstrap_address

    try:
        place = canonicalize_bootstrap_address(address)
        host, _, port = str(place).rpartition(":")
        with socket.create_connection((host, int(port)), CONNECT_SECONDS) as connection:
            connection.settimeout(CONNECT_SECONDS)
            connection.sendall(HTTP2_START)
            answer = connection.recv(9)
    except (OSError, OverflowError, ValueError) as error:
        raise UserError(f"{KEY}.address={address}: no cluster answers ({one_line(error)})") from None
    if answer[3:4] != HTTP2_SETTINGS:
        raise UserError(f"{KEY}.address={address}: no head of a Ray cluster, another program answers there")


def execute_shard(
    shard: Shard, targets: Sequence[str], folder: str | None, expected: Mapping[str, str]
) -> Iterator[Any]:
    """Execute a shard on a node, and yield its updates.

    Raises:
        UserError: the node came later and lacks what the runs need.
    """
    from runner.launchers.worker import updates_of

    check_this_node(expected, targets, folder)
    yield from updates_of(shard)


class _Cluster:
    """The nodes that a sweep uses, and the shards that they have."""

    def __init__(self, needs: Mapping[str, float], folder: str | None, same_hardware: bool) -> None:
        self._ray = _ray()
        self._needs = needs
        self._options = {"num_cpus": needs["CPU"], "num_gpus": needs["GPU"], "max_retries": 0}
        self._folder = folder
        self._same_hardware = same_hardware
        self._targets: list[str] = []
        self._expected: dict[str, str] = {}
        streaming = {"num_returns": "streaming", "_generator_backpressure_num_objects": UPDATES_WAITING}
        self._task = self._ray.remote(execute_shard).options(**self._options, **streaming)
        self._active: dict[Any, int] = {}
        self._count = 0
        self._asked_at = -math.inf
        self._fit: list[dict[str, Any]] = []

    def check_nodes(self, targets: list[str], bytes_a_run: int, store: str | None) -> None:
        """Check that the nodes have what the runs need, and reach the store if they record there.

        Raises:
            UserError: none has the CPUs and GPUs of a shard, or one lacks what the runs need.
        """
        self._targets = targets
        nodes = self._nodes()
        if not nodes:
            total = self._ray.cluster_resources()
            has = ", ".join(f"{total.get(name, 0):g} {name}s" for name in ("CPU", "GPU"))
            asked = f"num_cpus={self._needs['CPU']:g} num_gpus={self._needs['GPU']:g}"
            raise UserError(f"{KEY}: {asked} on one node, expected at most what a node has; all together have {has}")
        smallest = min(node["Resources"].get("memory", float("inf")) for node in nodes)
        if bytes_a_run > smallest:
            given = f"{bytes_a_run / 2**30:.1f} GiB"
            raise UserError(f"{KEY}: a run takes about {given}, a node has {smallest / 2**30:.1f} GiB")
        ours = description(self._targets, None)
        found = self._descriptions(nodes, store)
        same = [key for key in ours if key not in HARDWARE]
        for node, theirs in found.items():
            if (differs := difference(ours, theirs, same)) != "":
                raise UserError(f"{KEY}: node {node}: {differs}")
        first = next(iter(found.values()))
        for node, theirs in found.items():
            if (differs := difference(first, theirs, HARDWARE)) and self._same_hardware:
                raise UserError(f"{KEY}.same_hardware=true: node {node}: {differs}")
        checked = (*same, *HARDWARE) if self._same_hardware else same
        self._expected = {key: (first if key in HARDWARE else ours)[key] for key in checked}

    def _nodes(self) -> list[dict[str, Any]]:
        """Return the nodes that have what a shard needs, as they were asked for within the last second."""
        if time.monotonic() - self._asked_at >= NODES_SECONDS:
            self._asked_at, nodes = time.monotonic(), self._ray.nodes()
            self._fit = [node for node in nodes if node["Alive"] and self._fitting(node["Resources"])]
        return self._fit

    def _descriptions(self, nodes: Sequence[Mapping[str, Any]], store: str | None) -> dict[str, dict[str, str]]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        have_left = (self._ray.exceptions.TaskUnschedulableError, self._ray.exceptions.NodeDiedError)
        task = self._ray.remote(description)
        asked = {}
        for node in nodes:
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            options = {**self._options, "scheduling_strategy": place}
            asked[f"{node['NodeManagerHostname']} {node['NodeID'][:8]}"] = task.options(**options).remote(
                self._targets, self._folder, store
            )
        found = {}
        for name, answer in asked.items():
            try:
                found[name] = self._ray.get(answer)
            except have_left as error:  # it is not missed yet
                left = f"{KEY}: node {name}: {_reason(error)}"
            except self._ray.exceptions.RayError as error:
                raise UserError(f"{KEY}: node {name}: {_reason(error)}") from None
        if not found:
            raise UserError(left)
        return found

    @property
    def most(self) -> int:
        """How many shards run at once."""
        return max(1, sum(self._fitting(node["Resources"]) for node in self._nodes()))

    def _fitting(self, resources: Mapping[str, float]) -> int:
        """Return how many shards fit a node's resources."""
        return min(int(resources.get(name, 0) / number) for name, number in self._needs.items() if number > 0)

    @property
    def places(self) -> str:
        """The nodes, in words."""
        nodes = self._nodes()
        return f"{len(nodes)} node{'s' if len(nodes) != 1 else ''} of Ray"

    def start(self, shard: Shard) -> int:
        """Hand a shard to Ray; return its number."""
        self._count += 1
        self._active[self._task.remote(shard, self._targets, self._folder, self._expected)] = self._count
        return self._count

    def events(self, seconds: float) -> Iterator[tuple[int, Event]]:
        """Yield an event of each shard that has one; wait for the first."""
        ready, _ = self._ray.wait([*self._active], num_returns=1, timeout=seconds)
        if ready:
            ready, _ = self._ray.wait([*self._active], num_returns=len(self._active), timeout=0)
        for updates in ready:
            number = self._active.get(updates)
            if number is not None:
                event = self._event(updates)
                if isinstance(event, Ended | Died):
                    self._active.pop(updates)
                yield number, event

    def _event(self, updates: Any) -> Event:
        try:
            update: Event = self._ray.get(next(updates))
        except StopIteration:
            return Ended()
        except self._ray.exceptions.RayTaskError as error:
            return Died(_reason(error), is_final=not isinstance(error.cause, UserError | RecordingError))
        except self._ray.exceptions.RayError as error:
            return Died(_reason(error))
        return update

    def cancel(self, shard: int) -> None:
        """Kill the worker of a shard."""
        for updates, number in [*self._active.items()]:
            if number == shard:
                del self._active[updates]
                self._ray.cancel(updates, force=True)


def _reason(error: Any) -> str:
    cause = getattr(error, "cause", None)
    return one_line(cause if isinstance(cause, BaseException) else error)
