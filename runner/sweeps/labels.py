"""Labels of jobs: numbers with few digits, and more digits only where two different numbers would look equal."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from runner.messages.overrides import key_of
from runner.sweeps.job import Job

FEWEST, ENOUGH, ALL = 4, 6, 17
# A number with a fraction or an exponent, outside of words and quotes.
NUMBER = re.compile(r"(?<![\w.'\"])[+-]?(?P<digits>\d+\.\d*|\d+(?=[eE]))(?:[eE][+-]?\d+)?(?![\w.'\"])")


def labelled(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs of a sweep with short labels, different for each job."""
    labels = labels_of(text for job in jobs for text in job.varying)
    return [replace(job, labels=tuple(labels[text] for text in job.varying)) for job in jobs]


def labels_of(texts: Iterable[str]) -> dict[str, str]:
    """Return a label for each override, different from those of other values of its key."""
    by_key: dict[str, set[str]] = {}
    for text in texts:
        by_key.setdefault(key_of(text), set()).add(text)
    return {text: label for given in by_key.values() for text, label in short(given).items()}


def short(texts: Iterable[str]) -> dict[str, str]:
    """Return a label for each text: its numbers have few digits, and no two labels are equal."""
    everything = dict.fromkeys(texts)
    left = list(everything)
    found: dict[str, str] = {}
    for digits in range(FEWEST, ALL):
        by_label: dict[str, list[str]] = {}
        for text in left:
            by_label.setdefault(_rounded(text, digits), []).append(text)
        found |= {same[0]: label for label, same in by_label.items() if len(same) == 1}
        left = [text for same in by_label.values() if len(same) > 1 for text in same]
    found |= {text: text for text in left}
    return found if len(set(found.values())) == len(found) else {text: text for text in everything}


def _rounded(text: str, digits: int) -> str:
    return NUMBER.sub(lambda match: _few(match[0], match["digits"], digits), text)


def _few(number: str, mantissa: str, digits: int) -> str:
    if len(mantissa.replace(".", "").lstrip("0")) <= ENOUGH:
        return number
    value = float(number)
    return f"{value:.{max(digits, ENOUGH) if abs(value) >= 10**FEWEST else digits}g}"


def digits_apart(values: Iterable[float], fewest: int) -> int:
    """Return how many significant digits are needed so that different numbers look different; at least `fewest`."""
    different = {value for value in values if math.isfinite(value)}
    for digits in range(fewest, ALL):
        if len({f"{value:.{digits}g}" for value in different}) == len(different):
            return digits
    return ALL
