"""The page as HTML: markup, style and scripts of the folder `page`, with the runs as data."""

from importlib import resources

from runner.learn.content import Content, data_of
from runner.report.document import Document, document

SCRIPTS = ("data.js", "words.js", "plots.js", "map.js", "page.js")


def page_of(content: Content) -> str:
    """Return the page as HTML."""
    data = data_of(content)
    script = "\n".join(_file(name) for name in SCRIPTS)
    return document(Document(data["objective"], _file("page.html"), script, data, _file("page.css")))


def _file(name: str) -> str:
    return resources.files("runner.learn").joinpath("page", name).read_text(encoding="utf-8")
