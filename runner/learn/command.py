"""The command `python -m runner.learn`: writes the page and opens it in a browser."""

import argparse
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from runner.config.folders import check_working_directory, write_new
from runner.console.bar import Bar, has_bars
from runner.messages.errors import RunnerError, Terminated, UserError
from runner.messages.printing import guarded, print_error, print_lines
from runner.process import signals, tracebacks
from runner.process.browser import open_in_browser

if TYPE_CHECKING:
    from runner.learn.content import Content

PAGE = Path("outputs/learn.html")
DESCRIPTION = """\
Write an offline page on gradient descent, with the runs of many learning rates and momenta of one config, and open it.
Overrides are those of python -m runner, such as objective=rosenbrock optimizer=adam steps=500; nothing is recorded."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page and return the exit code: 2 for a user's mistake, 1 for a failure."""
    try:
        with signals.restored(), guarded():
            signals.handle()
            _run(_parser().parse_intermixed_args(arguments))
    except RunnerError as error:
        return _report(error.lines, error.exit_code)
    except Terminated:
        return _report(["terminated: no page was written"], 128 + signal.SIGTERM)
    except KeyboardInterrupt:
        return _report(["interrupted: no page was written"], 128 + signal.SIGINT)
    except Exception as error:  # a user's function may raise anything
        tracebacks.show_traceback(error)
        return _report([f"{tracebacks.described(error)}{tracebacks.traceback_hint()}"], RunnerError.exit_code)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runner.learn", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def fail(message: str) -> NoReturn:
        raise UserError(f"{message.removeprefix('argument ')}; see --help")

    parser.error = fail  # type: ignore[method-assign]  # instead of printing the usage
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides; python -m runner --help explains")
    parser.add_argument("--out", type=Path, default=PAGE, metavar="FILE", help="the page to write (%(default)s)")
    parser.add_argument("--no-browser", action="store_true", help="only write the page")
    return parser


def _run(asked: argparse.Namespace) -> None:
    check_working_directory()
    _check_file(asked.out)
    from runner.learn.grid import composed

    config, overrides = composed(asked.overrides)
    from runner.learn.content import content_of  # imports torch, which a mistake in the config need not wait for
    from runner.learn.page import page_of

    progress = _Progress(has_bars() and not config.quiet)
    try:
        content = content_of(overrides, config, progress)
    finally:
        progress.stop()
    try:
        write_new(asked.out, page_of(content))
    except OSError as error:
        raise UserError(f"--out {asked.out}: {error.strerror}") from None
    is_open = not asked.no_browser and open_in_browser(asked.out.absolute().as_uri())
    if not config.quiet:
        print_lines(
            *_summary(content), f"page       {asked.out}{'' if is_open else '; to see it, open it in a browser'}"
        )


class _Progress:
    """A progress bar that appears with the first step, where one is wanted."""

    def __init__(self, is_wanted: bool) -> None:
        self._is_wanted = is_wanted
        self._bar: Bar | None = None

    def __call__(self, done: int, total: int) -> None:
        if self._is_wanted:
            self._bar = self._bar or Bar(total)
            self._bar.show(done, f"{done:,} of {total:,} steps")

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def _summary(content: "Content") -> Iterator[str]:
    rates, momenta = content.grid.rates, content.grid.momenta
    times = f" x {len(momenta.values)} momenta" if momenta.key is not None else ""
    steps = content.member.config.steps
    count = "1 step" if steps == 1 else f"{steps:,} steps"
    yield f"ran        {len(rates)} learning rates from {rates[0]:g} to {rates[-1]:g}{times}, {count} each"
    border, bound = content.borders[momenta.own], content.bounds[momenta.own]
    if border is None:
        yield "border     of stability: none among these learning rates"
        return
    theory = "" if bound is None else f"; from the curvature: {bound:g}"
    yield f"border     of stability: measured between {border.below:g} and {border.above:g}{theory}"


def _check_file(path: Path) -> None:
    """Check that the page can be written, before anything runs.

    Raises:
        UserError: its folder does not exist, or it is a folder itself.
    """
    if path.is_dir():
        raise UserError(f"--out {path}: is a folder, expected a file such as {path / PAGE.name}")
    if path != PAGE and not path.parent.is_dir():
        raise UserError(f"--out {path}: no such folder as {path.parent}, expected one that exists")


def _report(lines: Sequence[str], code: int) -> int:
    for line in lines:
        print_error(f"error: {line}")
    return code
