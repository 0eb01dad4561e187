"""Microseconds a step by torch's kernels, by programs and by peers; whole processes; whether bits are the same.

`python -m tests.benchmarks.engine [steps | models | processes | bits [SEED [COUNT]] | ulps]`. JAX is timed where
JAX_PATH names the folder that it is installed in (`pip install --target FOLDER jax`).
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the runner's own commands, before torch is imported

import torch

from runner.composition.composition import compose, install, to_config
from runner.engine.batches import member_of
from runner.engine.compiled import Compiled
from runner.engine.engines import engine_of
from runner.engine.problem import Batch, prepare
from runner.engine.progress import Descent
from tests.benchmarks.exactness import print_bits, print_ulps

WORKS = {"gd, quadratic": ["optimizer=gd"], "adam, rosenbrock": ["optimizer=adam", "objective=rosenbrock", "lr=1e-3"]}
RUNS = (1, 100, 1_000, 10_000)
REPEATS = 5
JAX = """
import os, sys, time
import jax, jax.numpy as jnp
from jax import lax
work, runs, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def gd(lr):
    loss = lambda w: w**2 + 20.0
    def step(w, _):
        value, gradient = jax.value_and_grad(loss)(w)
        w = w - lr * gradient
        return w, (value, gradient, w)
    return lax.scan(step, jnp.float32(10.0), None, length=steps)[1]
def adam(lr):
    loss = lambda w: (1 - w[0])**2 + 100.0 * (w[1] - w[0]**2)**2
    def step(carry, _):
        w, m, v, t = carry
        value, g = jax.value_and_grad(loss)(w)
        t, m, v = t + 1, 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = w - lr * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)
        return (w, m, v, t), (value, g, w)
    zero = jnp.zeros(2)
    return lax.scan(step, (jnp.array([-1.2, 1.0]), zero, zero, jnp.float32(0.0)), None, length=steps)[1]
run = jax.jit(jax.vmap({"gd": gd, "adam": adam}[work]))
rates = jnp.linspace(1e-4, 1e-3, runs)
jax.block_until_ready(run(rates))
best = 1e9
for _ in range(5):
    begun = time.perf_counter()
    jax.block_until_ready(run(rates))
    best = min(best, time.perf_counter() - begun)
print(best / steps * 1e6)
"""


def steps_for(runs: int) -> int:
    """Return how many steps to time."""
    return {1: 160_000, 100: 20_000, 1_000: 4_000}.get(runs, 600)


def batch(overrides: list[str], runs: int, steps: int, engine: str) -> Batch:
    """Return a batch of runs with different learning rates."""
    config = to_config(compose(["quiet=true", "tracking=off", f"engine={engine}", f"steps={steps}", *overrides]))
    return prepare([member_of(replace(config, lr=1e-4 + 9e-4 * run / runs)) for run in range(runs)])


def of_descents(overrides: list[str], runs: int, engine: str, steps: int, repeats: int = REPEATS) -> float:
    """Return microseconds a step of a descent, with all that is looked at in each block."""
    best = float("inf")
    for _ in range(repeats):
        made = batch(overrides, runs, steps, engine)
        descent = Descent(made, engine=engine_of(made))
        begun = time.perf_counter()
        for _ in descent.blocks():
            pass
        best = min(best, time.perf_counter() - begun)
    return best / steps * 1e6


def of_programs(overrides: list[str], runs: int) -> float:
    """Return microseconds a step of a program alone, which writes all losses, gradients and weights."""
    steps = min(steps_for(runs), 16_384)
    made = batch(overrides, runs, steps, "compiled")
    problem, engine = made.problem, Compiled()
    engine(problem, problem.start, min(64, steps))
    best = float("inf")
    for _ in range(REPEATS):
        begun = time.perf_counter()
        count, carry = 0, problem.start
        while count < steps:
            carry, outputs = engine(problem, carry, steps - count)
            count += len(outputs.loss)
        best = min(best, time.perf_counter() - begun)
    return best / steps * 1e6


def plain(work: str, steps: int = 3_000) -> float:
    """Return microseconds a step of a loop as a notebook has it, with torch.optim for Adam."""
    weight = torch.tensor([10.0] if work == "gd" else [-1.2, 1.0], requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=1e-3)

    def gd() -> None:
        loss = (weight**2 + 20).sum()
        loss.backward()
        with torch.no_grad():
            weight.sub_(1e-3 * weight.grad)  # type: ignore[operator]
            weight.grad.zero_()  # type: ignore[union-attr]

    def adam() -> None:
        optimizer.zero_grad()
        loss = (1 - weight[0]) ** 2 + 100 * (weight[1] - weight[0] ** 2) ** 2
        loss.backward()
        optimizer.step()

    return _best({"gd": gd, "adam": adam}[work], steps)


def _best(step: Callable[[], None], steps: int) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        begun = time.perf_counter()
        for _ in range(steps):
            step()
        best = min(best, time.perf_counter() - begun)
    return best / steps * 1e6


def of_jax(work: str, runs: int, threads: int) -> float | None:
    """Return microseconds a step of JAX; None where it is not installed."""
    path = os.environ.get("JAX_PATH")
    if path is None:
        return None
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1" if threads == 1 else ""
    environment = {**os.environ, "PYTHONPATH": path, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", JAX, work, str(runs), str(min(steps_for(runs), 4_000))]
    prefix = ["taskset", "-c", "0"] if threads == 1 else []
    done = subprocess.run([*prefix, *command], env=environment, capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else None


def steps() -> None:
    """Print microseconds a step."""
    print(f"{'threads':<8}{'work':<18}{'runs':>7}{'eager':>9}{'descent':>9}{'program':>9}{'JAX':>9}{'plain':>9}")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for work, overrides in WORKS.items():
            name = work.partition(",")[0]
            for runs in RUNS:
                found = [
                    of_descents(overrides, runs, "eager", min(steps_for(runs), 3_000)),
                    of_descents(overrides, runs, "compiled", steps_for(runs)),
                    of_programs(overrides, runs),
                    of_jax(name, runs, threads),
                    plain(name) if runs == 1 else None,
                ]
                texts = "".join(f"{'' if one is None else format(one, '.3f'):>9}" for one in found)
                print(f"{threads:<8}{work:<18}{runs:>7,}{texts}", flush=True)


def models() -> None:
    """Print microseconds a step of networks on the digits, of all samples and of mini-batches of 32."""
    model = ["objective=mlp", "optimizer=adam", "initial_weight=random"]
    print(f"{'threads':<8}{'samples':<9}{'runs':>5}{'eager':>10}{'compiled':>10}{'plain':>10}")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for samples, overrides in (("all", model), ("32", [*model, "objective.batch_size=32"])):
            for runs in (1, 64):
                count = 600 if runs == 1 else 60
                found = [of_descents(overrides, runs, engine, count, 3) for engine in ("eager", "compiled")]
                found += [_plain_model(samples)] if runs == 1 else []
                print(f"{threads:<8}{samples:<9}{runs:>5}{''.join(f'{one:>10.0f}' for one in found)}", flush=True)


def _plain_model(samples: str, steps: int = 600) -> float:
    """Return microseconds a step of a loop as a notebook has it, on as many samples of as many features."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(1438, 64, generator=random)
    y = torch.randint(0, 10, (1438,), generator=random)
    net = torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.Tanh(), torch.nn.Linear(16, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def step() -> None:
        chosen = slice(None) if samples == "all" else torch.randint(0, len(x), (int(samples),), generator=random)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x[chosen]), y[chosen]).backward()
        optimizer.step()

    return _best(step, steps)


def processes() -> None:
    """Print seconds of whole processes: eager, and auto with nothing kept and with a kept program."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "RUNNER_CACHE_DIR": folder, "PYTHONPATH": str(Path.cwd())}
        imports = [sys.executable, "-c", "import torch, hydra, runner.cli.command_line"]
        print(f"imports {_seconds(imports, environment, folder):.2f} s")
        for count in (1_000, 10_000, 100_000, 1_000_000):
            asked = [sys.executable, "-m", "runner", "lr=0.05", f"steps={count}", "log_every=1000", "quiet=true"]
            asked += ["report=false"]
            environment["RUNNER_CACHE_DIR"] = str(Path(folder, str(count)))
            cold = _seconds([*asked, "engine=auto"], environment, folder, repeats=1)
            warm = _seconds([*asked, "engine=auto"], environment, folder)
            torchs = _seconds([*asked, "engine=eager"], environment, folder, repeats=1 if count > 10**5 else 3)
            print(
                f"{count:>9,} steps: eager {torchs:.2f} s, cold auto {cold:.2f} s, warm auto {warm:.2f} s", flush=True
            )


def _seconds(command: list[str], environment: dict[str, str], folder: str, repeats: int = 3) -> float:
    best = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter()
        subprocess.run(command, env=environment, cwd=folder, check=True)
        best = min(best, time.perf_counter() - begun)
    return best


def main() -> None:
    """Print what is asked for, else steps, models and processes."""
    install()
    asked = sys.argv[1:]
    if asked[:1] == ["bits"]:
        seed, count = [*map(int, asked[1:]), *[0, 40][len(asked) - 1 :]]
        print_bits(seed, count)
        return
    if asked[:1] == ["ulps"]:
        print_ulps()
        return
    for name, measure in {"steps": steps, "models": models, "processes": processes}.items():
        if asked[:1] in ([], [name]):
            measure()


if __name__ == "__main__":
    main()
