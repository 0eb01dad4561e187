"""Start `python -m runner` as a child of a process that has already imported torch, Hydra and MLflow.

Python imports a file of this name at its start, before the module that its command line names. The process that
`tests.support.forks` starts imports here what a run imports, then forks a child for each request that it receives.
In the child this file ends, and Python continues as usual: it runs the module, as a process with an exit code of its
own. The recorder that the child starts is forked in the same way, by a process that waits for it from the start.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

SETTINGS = "RUNNER_TESTS_FORKING"
LIMIT = 2**17
ROOT = Path(__file__).resolve().parents[3]
IMPORTED = (
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher",
    "mlflow.tracking",
    "omegaconf._impl",
    "torch.fx.experimental.symbolic_shapes",  # by torch, at a run's first gradient
)


def _serve(requests: socket.socket) -> None:
    """Fork a child for each request; return in the child, exit when the requests are closed."""
    running: dict[int, tuple[int, int]] = {}
    while True:
        for ready in select.select([requests.fileno(), *running], [], [])[0]:
            if ready in running:
                child, reply = running.pop(ready)
                _, status = os.waitpid(child, 0)
                _tell(reply, status)
                os.close(ready)
                os.close(reply)
                continue
            content, fds, _, _ = socket.recv_fds(requests, LIMIT, 4)
            if not content:
                os._exit(0)
            *streams, reply = fds
            if (child := os.fork()) == 0:
                requests.close()
                for fd in (reply, *running, *(other for _, other in running.values())):
                    os.close(fd)
                return _begin(json.loads(content), streams)
            for fd in streams:
                os.close(fd)
            _tell(reply, child)
            running[os.pidfd_open(child)] = child, reply


def _tell(reply: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(reply, f"{number}\n".encode())


def _begin(request: dict[str, Any], streams: Sequence[int]) -> None:
    """Bring this process into the state of a newly started Python."""
    _become(request, streams)
    sys.argv = ["-m", *request["arguments"]]
    sys.path.remove(str(Path(__file__).parent))
    del globals()["__file__"]  # the runner looks for users' modules, and inspect for the files of all
    signal.signal(signal.SIGINT, signal.default_int_handler)
    known, count = atexit._ncallbacks(), atexit._ncallbacks
    atexit._ncallbacks = lambda: count() - known
    _run_and_leave(request["module"])
    _fork_the_recorder()


def _become(request: dict[str, Any], streams: Sequence[int]) -> None:
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
        os.close(fd)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    tempfile.tempdir = None  # so that TMPDIR is read again
    random.seed()


def _run_and_leave(module: str) -> None:
    """Let Python run a module as its command and exit without unloading what is imported, which takes half a second."""
    run = runpy._run_module_as_main  # type: ignore[attr-defined]

    def run_and_leave(_module: str, alter_argv: bool) -> None:
        code: object = None
        if module != "runner":
            sys.modules.pop(module)
        try:
            run(module, alter_argv)
        except SystemExit as left:
            code = left.code
        except BaseException:
            sys.excepthook(*sys.exc_info())
            code = 1
        if not isinstance(code, int | None):
            print(code, file=sys.stderr)
            code = 1
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code or 0)

    runpy._run_module_as_main = run_and_leave  # type: ignore[attr-defined]


def _fork_the_recorder() -> None:
    """Let a child of this process, forked before anything has run here, become the recorder once that is started."""
    near_end, far_end = socket.socketpair()
    child = os.fork()
    if child == 0:
        near_end.close()
        os.setsid()
        _wait_and_record(far_end)
    far_end.close()
    waiting, start = [child], subprocess._fork_exec  # type: ignore[attr-defined]

    def fork_exec(args: Sequence[bytes], *others: Any) -> int:
        words = [os.fsdecode(word) for word in args]
        if not waiting or words[:3] != [sys.executable, "-P", "-c"] or "recorder" not in words[3]:
            return int(start(args, *others))
        _, _, _, cwd, env, stdin, _, _, stdout = others[:9]
        pairs = [os.fsdecode(pair).partition("=")[::2] for pair in env]
        request = {"code": words[3], "cwd": os.fsdecode(cwd), "env": dict(pairs)}
        socket.send_fds(near_end, [json.dumps(request).encode()], [stdin, stdout])
        near_end.close()
        return waiting.pop()

    subprocess._fork_exec = fork_exec  # type: ignore[attr-defined]


def _wait_and_record(requests: socket.socket) -> NoReturn:
    content, streams, _, _ = socket.recv_fds(requests, LIMIT, 2)
    if not content:  # nothing is recorded
        os._exit(0)
    requests.close()
    request = json.loads(content)
    _become(request, streams)
    sys.path[:0] = [path for path in request["env"]["PYTHONPATH"].split(os.pathsep) if path not in sys.path]
    exec(request["code"], {"__name__": "__main__"})
    os._exit(0)


def _import() -> None:
    """Import what a run and its recorder import."""
    os.environ |= {"MLFLOW_LOGGING_LEVEL": "CRITICAL", "MLFLOW_DISABLE_TELEMETRY": "true"}  # as the recorder does
    for name in IMPORTED:
        importlib.import_module(name)
    runner = importlib.import_module("runner")
    for module in pkgutil.walk_packages(runner.__path__, "runner."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
    from runner.config.yaml_files import parsed

    for path in (ROOT / "conf").rglob("*.yaml"):
        parsed(path.read_text(), str(path))


def _warm_up() -> None:
    """Compose a config and open a store, so that what Hydra and MLflow prepare at their first use is prepared."""
    from runner import plugins
    from runner.composition.composition import compose
    from runner.messages import redaction
    from runner.recorder.opening import open_store

    plugins.register()
    compose([])
    redaction._noted = redaction._Noted()
    with tempfile.TemporaryDirectory() as folder:
        open_store({"uri": f"sqlite:///{folder}/mlflow.db", "artifacts": None, "again": False}).close()
    for finalizer in weakref.finalize._registry:  # type: ignore[attr-defined]
        finalizer.atexit = False  # torch takes 50 ms to unload its libraries of operations
    assert threading.enumerate() == [threading.main_thread()]


def _main(fd: int, template: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    _import()
    from tests.support.template import use_template

    use_template(template)
    _warm_up()
    gc.enable()
    gc.freeze()
    with socket.socket(fileno=fd) as requests:
        _serve(requests)


if SETTINGS in os.environ:
    _main(**json.loads(os.environ.pop(SETTINGS)))
