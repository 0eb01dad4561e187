"""The device and threads of a run: choosing, setting and describing them."""

import os
from dataclasses import dataclass

import torch

from runner.messages.errors import UserError

# torch reads these when it is imported; MKL's takes precedence over OpenMP's.
NUMBERS_OF_THREADS = ("MKL_NUM_THREADS", "OMP_NUM_THREADS")
DEFAULT_THREADS = torch.get_num_threads()


@dataclass(frozen=True)
class Hardware:
    """The device and the numbers of threads of a run."""

    device: torch.device
    threads: int
    interop_threads: int

    def __str__(self) -> str:
        return f"{describe(self.device)}; {self.threads} intra-op and {self.interop_threads} inter-op threads"


def usable_cpus() -> int:
    """Return the number of logical CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is the first GPU, or the CPU if there is none.

    Raises:
        UserError: this machine or this build of torch has no such device.
    """
    if name == "auto":
        return torch.device(next(iter(_gpus()), "cpu"))
    device = torch.device("cuda:0" if name == "cuda" else name)
    if device.type == "cpu" or str(device) in _gpus():
        return device
    raise UserError(f"device={name}: not on this machine, expected one of {', '.join(['auto', 'cpu', *_gpus()])}")


def _gpus() -> list[str]:
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return cuda + (["mps"] if torch.backends.mps.is_available() else [])


def describe(device: torch.device) -> str:
    """Return the device with its name and memory, where torch knows them."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{device} ({properties.name}, {properties.total_memory / 2**30:.1f} GiB)"
    if device.type == "mps":
        return f"mps (Apple GPU, {torch.mps.recommended_max_memory() / 2**30:.1f} GiB)"
    return f"cpu ({usable_cpus()} logical CPUs)"


def _usual_threads() -> int:
    return DEFAULT_THREADS if any(os.environ.get(name) for name in NUMBERS_OF_THREADS) else usable_cpus()


def expected_hardware(device: str, threads: int | None) -> Hardware:
    """Return the hardware that a run would have here, without setting any threads.

    Raises:
        UserError: this machine or this build of torch has no such device.
    """
    usual = _usual_threads() if threads is None else threads
    return Hardware(choose_device(device), usual, torch.get_num_interop_threads())


def set_threads(threads: int | None, interop_threads: int | None) -> tuple[int, int]:
    """Set torch's threads, and return the numbers set.

    None means all usable CPUs; for intra-op threads, the environment's setting if there is one.

    Raises:
        UserError: the number of inter-op threads, which torch allows to be set once, is set to another number.
    """
    wanted = usable_cpus() if interop_threads is None else interop_threads
    if torch.get_num_interop_threads() != wanted:
        try:
            torch.set_num_interop_threads(wanted)
        except RuntimeError:
            fixed = torch.get_num_interop_threads()
            if interop_threads is not None:
                raise UserError(
                    f"interop_threads={wanted}: expected {fixed}, the number already set in this process"
                ) from None
            wanted = fixed
    torch.set_num_threads(_usual_threads() if threads is None else threads)
    return torch.get_num_threads(), wanted
