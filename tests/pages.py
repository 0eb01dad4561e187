"""The pages of documentation: parsing, running and updating them: `python -m tests.pages`."""

import contextlib
import io
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.reference import REFERENCES
from tests.support import commands
from tests.support.commands import Command
from tests.support.forks import Forks

ROOT = Path(__file__).parents[1]
PAGES = tuple(sorted(page for pattern in ("*.md", "conf/*.md", "runner/**/*.md") for page in ROOT.glob(pattern)))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
DERIVED = re.compile(r"<!-- (\w+) -->\n(.*?)<!-- end -->", re.DOTALL)
FILE_NAME = re.compile(r"^# ([\w./-]+\.(?:py|yaml))$", re.MULTILINE)
SETTING = re.compile(r"[A-Za-z_]\w*=")
# What differs from one machine or moment to the next.
VARYING = (
    (re.compile(r"^device .*$", re.MULTILINE), "device"),
    (re.compile(r"\b[0-9a-f]{18}(?:[0-9a-f]{14})?\b"), "<run>"),
    (re.compile(r"^ *[0-9,]+ of [0-9,]+ runs ended, .*\n", re.MULTILINE), ""),
    (re.compile(r"\([0-9.]+ s, [0-9,]+ steps/s\)"), "<pace>"),
)
SERVER = "127.0.0.1:5000"
DATABASE = "postgresql://me:password@127.0.0.1/"
# These are run by `.ci/run` in a new virtual environment, by `tests/test_ui.py`, and by users.
ELSEWHERE = ("pip ", "git clone ", "pre-commit ", ".ci/run", "pytest", "python -m runner.ui", "python -m tests.")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text and where it begins."""

    language: str
    text: str
    start: int


@dataclass(frozen=True)
class Example:
    """A command, and what the page shows of its output; None where it shows none."""

    command: str
    printed: str | None


def name_of(page: Path) -> str:
    """Return the path of a page within the repository."""
    return str(page.relative_to(ROOT))


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    return [Block(found[1], found[2], found.start(2)) for found in FENCED.finditer(text)]


def examples(block: Block) -> list[Example]:
    """Return the commands of a block: of a session with its output, or of lines to paste."""
    if block.language == "sh":
        return [Example(line, None) for line in block.text.replace("\\\n", " ").splitlines() if line.strip()]
    parts = [part for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE) if part]
    return [Example(*part.partition("\n")[::2]) for part in parts]


def comparable(text: str) -> str:
    """Return a command's output without what differs from one machine or moment to the next."""
    for pattern, stand_in in VARYING:
        text = pattern.sub(stand_in, text)
    return text.strip()


@dataclass
class Session:
    """A terminal in a folder of its own."""

    folder: Path
    make_database: Callable[[str], str]
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "page"})
    exported: dict[str, str] = field(default_factory=dict)
    last_run: str = ""
    stand_ins: dict[str, str] = field(default_factory=dict)
    servers: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def __enter__(self) -> "Session":
        """Change to the folder."""
        self.before = Path.cwd(), dict(os.environ)
        os.chdir(self.folder)
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes that still run, and change back."""
        for server in self.servers:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        folder, environment = self.before
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)

    def write(self, block: Block) -> bool:
        """Write the file that a block shows, when a comment at its top is the file's name."""
        named = FILE_NAME.search("\n".join(block.text.splitlines()[:2]))
        if named is None:
            return False
        path = self.folder / named[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
        return True

    def execute(self, block: Block, page: Path) -> None:
        """Run a block of Python with the names of the blocks before it; a traceback has the page's lines."""
        above = page.read_text().count("\n", 0, block.start)
        # MLflow keeps a database open by its URI, and a relative one is another database in another folder.
        text = self._filled(block.text).replace("sqlite:///outputs/", f"sqlite:///{self.folder}/outputs/")
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile("\n" * above + text, page, "exec"), self.names)

    def run(self, line: str) -> tuple[int, str]:
        """Run a command line; return its exit code and what it has printed."""
        words = shlex.split(self._filled(line))
        settings = dict(self.exported)
        while SETTING.match(words[0]):
            name, _, settings[name] = words.pop(0).partition("=")
        if words[0] == "export":
            self.exported.update(word.partition("=")[::2] for word in words[1:])
            return 0, ""
        if words[0] == "createdb":
            self.stand_ins[f"{DATABASE}{words[1]}"] = self.make_database(words[1])
            return 0, ""
        if words[:2] == ["mlflow", "server"]:
            return self._serve(words)
        if words[0] == "runner":
            words[:1] = ["python", "-m", "runner"]
        if words[:2] != ["python", "-m"]:
            raise ValueError(f"{line}: expected a command of the runner, or one that a session knows")
        done = Command(self.folder)(*words[3:], module=words[2], **settings)
        if (recorded := re.search(r"^recorded +run (\w+)", done.out, re.MULTILINE)) is not None:
            self.last_run = recorded[1]
        return done.code, done.out + done.err

    def _serve(self, words: list[str]) -> tuple[int, str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.stand_ins[SERVER] = f"127.0.0.1:{port}"
        command = [sys.executable, "-m", *words, "--port", str(port), "--workers", "1"]
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with open(os.devnull, "w") as nothing:
            self.servers.append(
                subprocess.Popen(
                    command, stdout=nothing, stderr=nothing, start_new_session=True, env=os.environ | quiet
                )
            )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.servers[-1].poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return 0, ""
            time.sleep(0.2)
        return 1, "the server does not answer"

    def _filled(self, text: str) -> str:
        """Return a command with the names that a reader is to replace replaced."""
        for place, stand_in in self.stand_ins.items():
            text = text.replace(place, stand_in)
        return re.sub(r"\bID\b", self.last_run, text)


def is_run_elsewhere(command: str) -> bool:
    """Return whether a command installs, serves or tests, which is run in other ways than as an example."""
    return command.startswith(ELSEWHERE)


def run_page(page: Path, session: Session) -> Iterator[tuple[Block, Example, int, str]]:
    """Run all commands of a page, in order; yield each command with its exit code and output."""
    for block in blocks(page.read_text()):
        if block.language in ("py", "python", "yaml") and session.write(block):
            continue
        if block.language == "python":
            session.execute(block, page)
        elif block.language in ("sh", "console"):
            for example in examples(block):
                if not is_run_elsewhere(example.command):
                    yield block, example, *session.run(example.command)
        elif block.language != "text":
            raise ValueError(f"{name_of(page)}: a block of {block.language or 'no language'}, of no name: {block.text}")


def main() -> None:
    """Update the outputs and the tables in the pages."""
    with tempfile.TemporaryDirectory() as folder, Forks(Path(folder) / "tables.db") as commands.forks:
        for page in PAGES:
            text = page.read_text()
            written = _with_outputs(_with_tables(text), page, Path(tempfile.mkdtemp(dir=folder)))
            if written != text:
                page.write_text(written)
                print(name_of(page))


def _with_tables(text: str) -> str:
    return DERIVED.sub(lambda found: f"<!-- {found[1]} -->\n{REFERENCES[found[1]]()}<!-- end -->", text)


def _with_outputs(text: str, page: Path, folder: Path) -> str:
    with Session(folder, lambda name: f"sqlite:///{name}.db") as session:
        for _, example, _, printed in run_page(page, session):
            if example.printed is not None and comparable(example.printed) != comparable(printed):
                text = text.replace(f"$ {example.command}\n{example.printed}", f"$ {example.command}\n{printed}")
    return text


if __name__ == "__main__":
    main()
