"""The engine that makes the steps of a batch, as its config asks."""

from runner.engine.auto import Auto
from runner.engine.descent import Engine, eager
from runner.engine.problem import Batch
from runner.messages.errors import UserError


def engine_of(batch: Batch) -> Engine:
    """Return the engine of a batch; its program is compiled now, where the config asks for one.

    Raises:
        UserError: the config asks for a program, and there cannot be one.
    """
    config = batch.members[0].config
    if config.engine == "auto":
        return Auto(max(config.steps for config in batch.configs))
    if config.engine == "eager":
        return eager
    from runner.compiling.recording import CannotCompileError
    from runner.engine.compiled import Compiled

    engine = Compiled()
    try:
        engine.prepared(batch.problem, batch.problem.start)
    except CannotCompileError as error:
        raise UserError(f"engine=compiled: {error}, expected engine=auto or engine=eager") from error
    return engine


def close(engine: Engine) -> None:
    """End what an engine does beside the steps."""
    if isinstance(engine, Auto):
        engine.close()


def described(engine: Engine) -> str | None:
    """Return which steps were compiled or why none were, as shown to users; None where there is nothing to say."""
    return engine.description if isinstance(engine, Auto) else None if engine is eager else "compiled"
