"""The mistakes in the jobs of a sweep, raised together as one error."""

from runner.messages.errors import UserError

MISTAKES_IN_FULL = 5
# The name of a job, and what is wrong with it.
Mistakes = list[tuple[str, str]]


def raise_mistakes(mistakes: Mistakes, jobs: int) -> None:
    """Raise the mistakes of jobs as one error, if there are any.

    Raises:
        UserError: a few different mistakes in full, and the number of the others.
    """
    if not mistakes:
        return
    by_text: dict[str, list[str]] = {}
    for name, text in mistakes:
        by_text.setdefault(text, []).append(name)
    in_full = list(by_text.items())[:MISTAKES_IN_FULL]
    lines = [f"{text} (job {names[0]}{_and_more(names)})" if names[0] else text for text, names in in_full]
    more = len(mistakes) - sum(len(names) for _, names in in_full)
    raise UserError(*lines, *([f"and {more} more of {jobs} jobs"] if more else []))


def _and_more(names: list[str]) -> str:
    return f" and {len(names) - 1:,} more" if len(names) > 1 else ""
