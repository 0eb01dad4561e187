"""Every page is checked: its commands print the output shown, its tables are up to date, its links have targets."""

import re
from pathlib import Path

import pytest

from tests.pages import DERIVED, PAGES, ROOT, Session, blocks, comparable, examples, name_of, run_page
from tests.pictures import CHARTS, DESCENT, UI, draw_descent
from tests.reference import REFERENCES

README = (ROOT / "README.md").read_text()
RUN = [page for page in PAGES if page.name == "README.md"]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in RUN if blocks(page.read_text())], ids=name_of)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    with Session(tmp_path, lambda name: str(request.getfixturevalue("postgresql")(name))) as session:
        for _, example, code, printed in run_page(page, session):
            if example.printed is None:
                assert code == 0, f"{example.command}\n{printed}"
            else:
                assert comparable(printed) == comparable(example.printed), example.command
                assert (code != 0) == any(line.startswith("error: ") for line in printed.splitlines())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_tables_made_from_the_configs_are_up_to_date(page: Path) -> None:
    for found in DERIVED.finditer(page.read_text()):
        assert found[2] == REFERENCES[found[1]](), "write it anew with python -m tests.pages"


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(page.read_text())}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_pictures_have_targets(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        if "://" in link:
            continue
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_commands_in_a_sentence_are_among_the_commands_run() -> None:
    texts = [page.read_text() for page in RUN]
    shown = {example.command for text in texts for block in blocks(text) for example in examples(block)}
    for text in texts:
        for named in (" ".join(found.split()) for found in re.findall(r"`(python -m runner[^`]*)`", text)):
            assert any(command.startswith(named) for command in shown), named


def test_a_picture_is_made_by_the_program(tmp_path: Path) -> None:
    draw_descent(tmp_path / "descent.png", rates=5, steps=20)
    assert (tmp_path / "descent.png").read_bytes().startswith(b"\x89PNG")
    assert all(picture.stat().st_size < 50_000 for picture in (CHARTS, DESCENT, UI))


def test_the_readme_is_short_and_links_to_the_pages() -> None:
    assert len(README.splitlines()) <= 150
    linked = {(ROOT / link).resolve() for link in LINK.findall(README) if "://" not in link}
    assert {page for page in PAGES if page.parent.name in ("conf", "cli", "api")} <= linked


def test_each_room_has_a_readme_of_at_most_a_page() -> None:
    rooms = {path.parent for path in (ROOT / "runner").glob("*/__init__.py")}
    contributing = ROOT / "CONTRIBUTING.md"
    linked = {(ROOT / link).resolve() for link in LINK.findall(contributing.read_text())}
    assert {room / "README.md" for room in rooms} <= linked
    for room in rooms:
        text = (room / "README.md").read_text()
        own = text.partition("## For contributors")[2] or text
        assert len(own.splitlines()) <= 40, room
        assert "import" in own.lower(), f"{room}: does not say what it must not import"


def test_the_commands_at_the_top_install_and_run() -> None:
    # The second is what .ci/run runs, in a clean clone; the first installs the same package.
    commands = [line for line in README.splitlines() if line.startswith("pip install -c")]
    assert commands == [
        "pip install -c constraints.txt -e . && python -m runner lr=0.05 steps=1000",
        "pip install -c constraints.txt -e '.[test]' && pytest",
    ]
    assert "README.md" in (ROOT / ".ci/run").read_text()


def test_the_cpu_build_is_the_version_that_the_constraints_file_pins() -> None:
    pinned = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))
    assert f"pip install {pinned} --index-url https://download.pytorch.org/whl/cpu\n" in README
