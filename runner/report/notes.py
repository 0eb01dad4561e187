"""Notes in MLflow's UI: the descriptions of an experiment, a sweep and a single run, in Markdown.

Ids that only MLflow knows are written as references, which the recorder replaces.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runner.messages.printing import escaped, for_shell
from runner.messages.redaction import shown_override
from runner.report.views import LIST, address_of_run, address_of_view, key_of_sweep

# The page and the picture that a report leaves with a run.
PAGE, LOSS, CURVES = "report/report.html", "report/loss.svg", "report/curves.svg"
# All else is written as an entity, which Markdown and HTML show as it is and take for nothing else.
ACTIVE = re.compile(r"[^0-9A-Za-z ,.;:=/()%+\u00c0-\ud7ff-]|:(?! )")
SHELL_WORD = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
MOST_CELL = 60
MOST_COMMAND = 2000
ROWS = 10
LIST_LINK = "sweeps and single runs"


@dataclass(frozen=True)
class Best:
    """One of the best jobs of a sweep: a reference to its run, the values that varied, and its results by name."""

    run: str
    varied: Mapping[str, str]
    results: Mapping[str, str]


@dataclass(frozen=True)
class SweepNote:
    """What the note of a sweep says.

    Attributes:
        parent: a reference to the parent run.
        experiment: a reference to its experiment.
        sentence: how many jobs ended how.
        best: the best jobs, in order.
        spreads: means over seeds, a row each, with the names of the columns first.
        command: repeats the sweep.
        has_report: whether it has a page and a picture.
        sentences: what it says first.
    """

    parent: str
    experiment: str
    sentence: str
    best: Sequence[Best]
    spreads: Sequence[Sequence[str]]
    command: str
    has_report: bool
    sentences: Sequence[str] = ()


def safe(text: str, longest: int = MOST_CELL) -> str:
    """Return a text that Markdown and HTML show as it is, in one line of at most `longest` characters."""
    line = escaped(" ".join(text.split()))
    line = line if len(line) <= longest else f"{line[: longest - 3]}..."
    return ACTIVE.sub(lambda match: f"&#{ord(match[0])};", line)


def command_of(overrides: Sequence[str], is_sweep: bool) -> str:
    """Return the command line with these overrides, without secrets."""
    words = [word if SHELL_WORD.fullmatch(word) else for_shell(word) for word in map(shown_override, overrides)]
    line = escaped(" ".join(["python -m runner", *(["-m"] if is_sweep else []), *words]))
    return line if len(line) <= MOST_COMMAND else ""


def note_of_sweep(note: SweepNote) -> str:
    """Return the description of a sweep's parent run."""
    said = map(safe_sentence, note.sentences)
    best = "Best last loss" if note.sentences else "Best"
    parts = [*said, f"{best}: {_answer(note)}", safe_sentence(note.sentence), _links(note), _table_of_best(note)]
    if note.has_report:
        parts.append(picture(note.parent, LOSS if _has_numbers(note) else CURVES))
    if note.spreads:
        parts += ["Means over seeds, best first:", _table(note.spreads[0], note.spreads[1 : ROWS + 1])]
    return joined([*parts, *repeat(note.command)])


def note_of_experiment(note: SweepNote) -> str:
    """Return the description of an experiment whose last sweep this is; the UI shows its first line above the runs."""
    everything = link(LIST_LINK, address_of_view(note.experiment, LIST))
    return f"Best of the last sweep: {_answer(note)} {_links(note)} | {everything}"


def note_of_run(run: str, experiment: str, sentence: str, command: str, has_report: bool) -> str:
    """Return the description of a single run, given by a reference; with a report it has a picture."""
    runs = link(LIST_LINK, address_of_view(experiment, LIST))
    return joined([safe_sentence(sentence), runs, *([picture(run)] if has_report else []), *repeat(command)])


def joined(parts: Sequence[str]) -> str:
    """Return paragraphs as one text."""
    return "\n\n".join(part for part in parts if part)


def safe_sentence(text: str) -> str:
    """Return a sentence as `safe` does."""
    return safe(text, 300)


def picture(run: str, path: str = LOSS) -> str:
    """Return a picture that a report leaves with a run, given by a reference."""
    return f"![loss](get-artifact?path={path.replace('/', '%2F')}&run_uuid={run})"


def link(text: str, address: str) -> str:
    """Return a link within MLflow's UI."""
    return f"[{text}]({address})"


def repeat(command: str) -> list[str]:
    """Return the paragraphs with a command; none without one."""
    return ["To run it again:", f"    {command}"] if command else []


def _has_numbers(note: SweepNote) -> bool:
    """Return whether a number varied, so that the report draws the last loss against it."""

    def is_number(text: str) -> bool:
        try:
            float(text)
        except ValueError:
            return False
        return True

    return any(map(is_number, (value for one in note.best for value in one.varied.values())))


def _answer(note: SweepNote) -> str:
    if not note.best:
        return "no job has a finite loss."
    best = note.best[0]
    values = ", ".join(f"{safe(key)} = {safe(value)}" for key, value in best.varied.items())
    results = ", ".join(f"{safe(name)} {safe(value)}" for name, value in best.results.items())
    return f"**{values or 'the only setting'}**, {results}."


def _links(note: SweepNote) -> str:
    key = key_of_sweep(note.parent)
    links = {
        "jobs, best first": address_of_view(note.experiment, key),
        "charts": address_of_view(note.experiment, key, "CHART"),
    }
    if note.has_report:
        links["report"] = address_of_run(note.experiment, note.parent, PAGE)
    return " | ".join(link(text, address) for text, address in links.items())


def _table_of_best(note: SweepNote) -> str:
    if len(note.best) < 2:
        return ""
    keys = list(dict.fromkeys(key for one in note.best for key in one.varied))
    names = list(dict.fromkeys(name for one in note.best for name in one.results))
    rows = []
    for rank, one in enumerate(note.best[:ROWS], start=1):
        values = [*(one.varied.get(key, "") for key in keys), *(one.results.get(name, "") for name in names)]
        rows.append([link(f"{rank}", address_of_run(note.experiment, one.run)), *map(safe, values)])
    return _rows(["rank", *map(safe, [*keys, *names])], rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return _rows(list(map(safe, heads)), [list(map(safe, row)) for row in rows])


def _rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
