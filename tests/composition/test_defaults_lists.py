"""Mistakes in a file's defaults list are reported with the file, the item and the correction."""

from pathlib import Path

import pytest

from runner.composition import composition
from runner.messages.errors import UserError
from tests.conftest import ROOT, Command
from tests.support.compositions import composed

OPTIMIZERS = ", ".join(sorted(path.stem for path in (ROOT / "conf/optimizer").glob("*.yaml")))


def messages(folder: Path, *overrides: str, primary: str = "config") -> tuple[str, ...]:
    with pytest.raises(UserError) as raised:
        composed(folder, *overrides, primary=primary)
    return raised.value.lines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "objective").mkdir()
    (tmp_path / "experiment" / "base.yaml").write_text("# @package _global_\nsteps: 7\n")
    (tmp_path / "experiment" / "5.yaml").write_text("# @package _global_\nsteps: 5\n")
    return tmp_path


def write(folder: Path, items: str, body: str = "lr: 0.5") -> None:
    (folder / "experiment" / "x.yaml").write_text(f"# @package _global_\ndefaults: {items}\n{body}\n")


ANY = "expected GROUP: OPTION, override GROUP: OPTION or the name of another file"
MISTAKES = {
    "[/optimizer: adam]": "- /optimizer: adam': optimizer has an option already; expected '- override",
    "[/optimizer: gd]": "- /optimizer: gd': optimizer has an option already; expected '- override /optimizer: gd'",
    "[optional /optimizer: nope]": "- optional /optimizer: nope': optimizer has an option already; expected",
    "[/hydra/launcher: basic]": "expected '- override /hydra/launcher: basic'",
    "[optimizer: adam]": "- optimizer: adam': expected '- override /optimizer: adam'",
    "[override optimizer: adam]": "- override optimizer: adam': expected '- override /optimizer: adam'",
    "[override /optimizer@mine: adam]": "- override /optimizer@mine: adam': expected '- override /optimizer: adam'",
    "[overide /optimizer: adam]": "expected override or optional before the group; did you mean 'override'?",
    "[override /optimiser: adam]": "did you mean 'optimizer'?",
    "[override /optimizer: adamm]": f"- override /optimizer: adamm': expected one of {OPTIMIZERS}; did you mean",
    "[override optional /optimizer: nope]": f"expected one of {OPTIMIZERS}",
    "[override /optimizer: 7]": f"- override /optimizer: 7': expected one of {OPTIMIZERS};",
    "[override /tracking: on]": "one of off, server, sqlite; YAML reads on, yes or true as true, unless quoted",
    "[override /optimizer: [1]]": "- override /optimizer: [1]': expected one of",
    "[override /optimizer: {name: {a: b}}]": "expected the name of an option; settings go below the defaults list",
    "[override /optimizer: ]": f"- override /optimizer: null': expected one of {OPTIMIZERS}",
    "[override /optimizer: '???']": "here, or as optimizer=OPTION on the command line",
    "['override /optimizer:adam']": "- override /optimizer:adam': expected '- override /optimizer: adam'",
    "[/optimizer=adam]": "expected '- override /optimizer: adam'",
    "[optimizer]": "- optimizer': expected '- override /optimizer: OPTION'",
    "[{override /optimizer: adam, override /stop: rules}]": "expected one choice per item, each after its own dash",
    "[{/optimizer: adam, optional: true}]": "expected one choice per item",
    "[off: adam]": "expected the name of a group before the colon",
    "[override: adam]": "expected the name of a group before the colon",
    "[base, null]": f"item 2 is empty: {ANY}, or none",
    "[{}]": f"item 1 is empty: {ANY}, or none",
    "['???']": f"- ???': {ANY}",
    "[7]": f"- 7': {ANY}; a name that is a number needs quotes",
    "[[base]]": f"- [base]': {ANY}",
    "[bse]": "- bse': no such file; expected one of 5, base, seed; did you mean 'base'?",
    "[_self_, base, _self_]": "- _self_': expected _self_ only once in the list",
    "[_self_: base]": "expected _self_ by itself",
    "[override /stop: rules, override /stop: rules]": "expected stop only once in the list",
    "[override /optimizer: adam, base]": "- base': expected before '- override /optimizer: adam', since overrides go",
    "['${nope}']": "- ${nope}': cannot be resolved",
    "[override /optimizer: '${nope}']": "- override /optimizer: ${nope}': cannot be resolved",
    "[x]": "in defaults, a cycle: it includes experiment/x; expected none",
    "[/experiment: base]": "- /experiment: base': the file itself is an option of experiment; expected '- base'",
    "[override /experiment: base]": "the file itself is an option of experiment; expected '- base'",
    "{optimizer: adam}": "defaults: expected a list, each item after a dash, given a mapping",
    "optimizer": "defaults: expected a list, each item after a dash, given text",
    "": "defaults: expected a list, each item after a dash, given nothing",
}


@pytest.mark.parametrize("items", MISTAKES)
def test_a_mistake_is_reported_with_its_file_item_and_correction(folder: Path, items: str) -> None:
    write(folder, items)
    (line,) = messages(folder, "experiment=x")
    assert line.startswith(f"{folder}/experiment/x.yaml: "), line
    assert MISTAKES[items] in line


@pytest.mark.parametrize(
    ("items", "meant"),
    [
        ("[override /tracking: off]", ["tracking=off"]),
        ("[override /tracking: No]", None),
        ("[5, override /stop: [rules]]", ["experiment='5'"]),
        ("[base, override /objective: rosenbrock]", ["experiment=base", "objective=rosenbrock"]),
        ("[optional /nowhere: nope, optional override /optimizer: adam]", ["optimizer=adam"]),
    ],
)
def test_a_word_that_yaml_reads_as_something_else_names_its_option(
    folder: Path, items: str, meant: list[str] | None
) -> None:
    write(folder, items)
    with_file = composed(folder, "experiment=x")
    expected = composed(folder, *(meant or ["tracking=off"]), "lr=0.5")
    assert {key: with_file[key] for key in with_file if key != "hydra"} == {
        key: expected[key] for key in with_file if key != "hydra"
    }


def test_a_groups_file_may_give_such_a_word_as_its_name(folder: Path) -> None:
    (folder / "tracking").mkdir()
    shipped = composition.config_folder() / "tracking" / "off.yaml"
    (folder / "tracking" / "mine.yaml").write_text(shipped.read_text().replace('"off"', "off"))
    assert composed(folder, "tracking=mine").tracking.name == "off"


def test_cycles_and_mistakes_in_included_files_are_reported(folder: Path) -> None:
    (folder / "experiment" / "a.yaml").write_text("# @package _global_\ndefaults: [b]\n")
    (folder / "experiment" / "b.yaml").write_text("# @package _global_\ndefaults: [a]\n")
    (folder / "objective" / "mine.yaml").write_text("defaults: [quadratc, _self_]\n")
    write(folder, "[override /objective: mine]")
    assert messages(folder, "experiment=a", "lr=-1") == (
        f"{folder}/experiment/a.yaml: in defaults, a cycle: "
        "it includes experiment/b, which includes experiment/a; expected none",
        "lr=-1: expected a finite number above 0",
    )
    (line,) = messages(folder, "experiment=x")
    assert line.startswith(
        f"{folder}/objective/mine.yaml: in defaults, '- quadratc': no such file; expected one of ack"
    )
    assert line.endswith("; did you mean 'quadratic'?")


def test_mistakes_around_the_defaults_list_are_reported(folder: Path) -> None:
    (folder / "experiment" / "x.yaml").write_text("# @package _global_\ndefault:\n- override /optimizer: adam\n")
    assert messages(folder, "experiment=x") == (
        f"{folder}/experiment/x.yaml: default: unknown key; did you mean 'defaults'?",
    )
    (folder / "experiment" / "x.yaml").write_text("# @package _global_\n- override /optimizer: adam\n")
    assert messages(folder, "experiment=x") == (
        f"{folder}/experiment/x.yaml: expected keys with values, as in lr: 0.1",
    )
    (folder / "experiment" / "x.yaml").write_text("# @package _global_\ntracking: off\n")
    (line,) = messages(folder, "experiment=x")
    assert line.endswith("a file chooses one in its defaults list, as in - override /tracking: OPTION")


def test_mistakes_in_a_primary_config_and_on_the_command_line_are_reported(folder: Path) -> None:
    (folder / "mine.yaml").write_text("defaults: [config, override optimizer: adamm]\n")
    (line,) = messages(folder, primary="mine")
    assert line.startswith(f"{folder}/mine.yaml: in defaults, '- override optimizer: adamm': expected one of")
    (folder / "mine.yaml").write_text("defaults: [config, 3]\n")
    assert messages(folder, primary="mine") == (
        f"{folder}/mine.yaml: in defaults, '- 3': {ANY}; a name that is a number needs quotes",
    )
    assert messages(folder, "experiment=[base,nope]") == ("experiment=nope: expected one of 5, base, seed",)
    assert messages(folder, "optimizer=???")[0].startswith(f"optimizer=???: expected one of {OPTIMIZERS}")
    assert messages(folder, "experiment=5") == (
        "experiment=5: a name that is a number needs quotes, as in \"experiment='5'\"",
    )


@pytest.mark.parametrize("arguments", [[], ["--cfg", "job"], ["--info", "defaults"], ["-m", "lr=0.1,0.2"]])
def test_the_command_prints_one_line_and_exits_with_2(runner: Command, arguments: list[str]) -> None:
    experiments = runner.folder / "given" / "experiment"
    experiments.mkdir(parents=True)
    (experiments / "x.yaml").write_text("# @package _global_\ndefaults:\n  - x\n")
    done = runner(*arguments, "--config-dir", "given", "experiment=x", "tracking=off")
    line = "error: given/experiment/x.yaml: in defaults, a cycle: it includes experiment/x; expected none\n"
    assert (done.code, done.out, done.err) == (2, "", line)
