"""The checks of a config, and the message for each mistake."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from runner.composition.composition import compose, install, to_config
from runner.config.checking import problems
from runner.config.plain import plain
from runner.config.schema import GROUPS, Config, keys_of
from runner.messages.errors import UserError
from runner.messages.ranges import shown

install()

MISTAKES = {
    "lrr=1": r"lrr=1: unknown key, expected one of .*\blr\b.*; did you mean 'lr'\?",
    "objective.curvture=3": r"objective.curvture=3: unknown key, .*; did you mean 'objective.curvature'\?",
    "+objective.wide=3": r"objective.wide=3: unknown key, expected one of objective.name, .*",
    "objective=quadratik": r"objective=quadratik: expected one of .*quadratic.*; did you mean 'quadratic'\?",
    "hydra/launcher=basik": r"hydra/launcher=basik: expected one of basic, batched.*; did you mean 'basic'\?",
    "objective=null": r"objective=null: expected one of .*quadratic.*",
    "objective=5": r"objective=5: expected one of .*quadratic.*",
    "~objective": r"objective=null: expected one of .*quadratic.*",
    "~lr": r"lr: missing, expected a finite number above 0",
    "lr=-1": r"lr=-1: expected a finite number above 0",
    "lr=0": r"lr=0: expected a finite number above 0",
    "lr=abc": r"lr=abc: expected a finite number above 0",
    "lr=nan": r"lr=nan: expected a finite number above 0",
    "lr=inf": r"lr=inf: expected a finite number above 0",
    "lr=true": r"lr=true: expected a finite number above 0",
    "lr=": r"lr='': expected a finite number above 0",
    "lr=null": r"lr=null: expected a finite number above 0",
    "lr={a:1}": r"lr=\{a:1\}: expected a finite number above 0",
    "lr=1,2": r"lr=1,2: several values make a sweep: add -m; a list is written \[1,2\]",
    "lr": r"'lr': not a valid override, expected key=value \(missing EQUAL at '<EOF>'\)",
    "lr:0.1": r"'lr:0.1': not a valid override, expected = between key and value, as in lr=0.1",
    "lr=,0.1": r"'lr=,0.1': not a valid override, a comma before the first value: .*, or lr=0.1",
    "lr=(0.1,0.2)": r"'lr=\(0.1,0.2\)': not a valid override, parentheses .* expected lr=0.1,0.2 for several .*",
    "lr=[": r"'lr=\[': not a valid override, expected key=value .*",
    "steps=0": r"steps=0: expected a whole number of at least 1",
    "steps=-3": r"steps=-3: expected a whole number of at least 1",
    "steps=1.5": r"steps=1.5: expected a whole number of at least 1",
    "threads=0": r"threads=0: expected a whole number of at least 1, or null for all logical CPUs",
    "seed=-1": r"seed=-1: expected a whole number of at least 0",
    "quiet=maybe": r"quiet=maybe: expected true or false",
    "device=tpu": r"device=tpu: expected auto, cpu, cuda, cuda:N or mps; did you mean 'cpu'\?",
    "device=gpu": r"device=gpu: expected auto, cpu, cuda, cuda:N or mps; did you mean 'cuda'\?",
    "device=GPU:1": r"device=GPU:1: expected auto, cpu, cuda, cuda:N or mps; did you mean 'cuda:1'\?",
    "optimizer.momentum=0.9": r"optimizer.momentum=0.9: unknown key, .*; options that have it: "
    "optimizer=lars, momentum, muon, nesterov, rmsprop, schedule_free_sgd, shampoo",
    "+objective.condition=9": r"objective.condition=9: unknown key, .*; options that .*: objective=ill_conditioned",
    "+repeats=3": r"\+repeats: not a key of the config, expected repeats=... without \+",
    "++where=lr<1": r"\+\+where: not a key of the config, expected where=... without \+\+",
    "device=${nope}": r"device=\$\{nope\}: cannot be resolved \(Interpolation key 'nope' not found\)",
    "dtype=float23": r"dtype=float23: expected float32 or float64; did you mean 'float32'\?",
    "name=": r"name='': expected text that is not empty, or null for one made of what is run",
    "name=' '": r"name=' ': expected text that is not empty.*",
    "tags=[1]": r"tags=\[1\]: not a value that this key takes .*",
    "initial_weight=[]": r"initial_weight=\[\]: expected a finite number or a list of them.*",
    "initial_weight=[1,nan]": r"initial_weight=\[1,nan\]: expected a finite number or a list of them.*",
    "objective.curvature=abc": r"objective.curvature=abc: expected a finite number",
    "objective.curvature=nan": r"objective.curvature=nan: expected a finite number",
    "objective.dimension=1.5": r"objective.dimension=1.5: expected a whole number of at least 1, or null for .*",
    "tracking.uri=foo": r"tracking.uri=foo: expected a database or server, such as .*",
    "tracking.uri=": r"tracking.uri='': expected a database or server, such as .*",
    "tracking.uri=null": r"tracking.uri=null: expected a database or server, such as .*",
    "experiment=sed": r"experiment=sed: expected one of seed; did you mean 'seed'\?",
    "LR=1": r"LR=1: unknown key, .*; did you mean 'lr'\?",
    "optimizer=ADAM": r"optimizer=ADAM: expected one of .*; did you mean 'adam'\?",
    "+lr=3": r"\+lr=3: the key lr exists already, expected lr=3",
    "+objective=booth": r"\+objective=booth: the key objective exists already, expected objective=booth",
    "~stepz": r"~stepz: no such key with a value to delete; did you mean 'steps'\?",
    "objective=???": r"objective=\?\?\?: expected one of .*quadratic.*",
    "lr.deep=3": r"lr.deep=3: unknown key, lr has no keys",
    "lr = 3": r"'lr = 3': not a valid override, expected key=value \(no space around the =, and quotes .*",
    "tags.größe=5": r"'tags.größe=5': not a valid override, expected key=value .*",
    "tags={a:null}": r"tags=\{a:null\}: expected names with text or numbers, as in tags.team=blue",
    "threads=3000000000": r"threads=3000000000: expected a whole number of at least 1, or null .*; at most 4,096",
    "interop_threads=3000000000": r"interop_threads=3000000000: expected .*; at most 4,096",
    "seed=18446744073709551616": r"seed=18446744073709551616: expected a whole .*; at most 9,223,372,036,854,775,807",
    "objective.dimension=1000000000000": r"objective.dimension=1000000000000: expected .*; at most 10,000,000",
    "objective.name=rosenbrock": r"objective.name=rosenbrock: expected quadratic; objective=rosenbrock chooses another",
    "optimizer.name=adamm": r"optimizer.name=adamm: expected one of .*; did you mean 'adam'\?",
    "stop.name=foo": r"stop.name=foo: expected one of rules",
    "~objective.curvature": r"objective.curvature: missing, expected a finite number",
    "~stop.loss_change": r"stop.loss_change: missing, expected keys below, window",
    "~tracking.uri": r"tracking.uri: missing, expected a database or server, such as .*",
    "objective.curvature=[1,2]": r"objective.curvature=\[1,2\]: expected a finite number",
    "objective.start=null": r"objective.start=null: expected a number or a formula, or a list of them",
    "objective.start=true": r"objective.start=true: expected a number or a formula, or a list of them",
    "objective.bounds=3": r"objective.bounds=3: expected \[low, high\], or such a pair for each coordinate, .*",
    "objective.minimum=[1]": r"objective.minimum=\[1\]: expected a number or a formula, or null for not known",
}
# Faulty config files of a user, by the override that chooses them, with the message for each.
OWN_FILES: dict[str, tuple[str | bytes, str]] = {
    "objective=abc": (
        "name: quadratic\ncurvature: abc\noffset: 2",
        "objective.curvature=abc: expected a finite number",
    ),
    "objective=flag": ("name: quadratic\ncurvature: yes\noffset: 2", "objective.curvature=true: expected a finite .*"),
    "objective=none": ("name: quadratic\ncurvature:\noffset: 2", "objective.curvature=null: expected a finite number"),
    "objective=typo": (
        "name: quadratic\ncurvature: 1\noffset: 2\noffst: 3",
        "objective.offst=3: unknown key, .*; did you mean 'objective.offset'.*",
    ),
    "objective=less": ("name: quadratic\ncurvature: 1", "objective.offset: missing, expected a finite number"),
    "objective=other": ("name: quadratik", "objective.name=quadratik: expected one of .*; did you mean 'quadratic'.*"),
    "objective=list": ("- 1", r"objective=\[1\]: expected a config group, which has a name"),
    "objective=number": ("5", "objective=number: its file cannot be read .*"),
    "objective=broken": ("name: quadratic\ncurvature: [", ".*/objective/broken.yaml, line 2: not valid YAML .*"),
    "objective=twice": ("name: quadratic\nname: booth", ".*/twice.yaml, line 2: not valid YAML .*duplicate key name.*"),
    "objective=bytes": (b"name: \xff", "objective=bytes: its file cannot be read .*"),
    "experiment=place": ("lr: 0.5", r"experiment=\{lr:0.5\}: expected '# @package _global_' as the first line .*"),
    "experiment=text": ("# @package _global_\nlr: '0.5'", "lr=0.5: expected a finite number above 0"),
}


@functools.cache
def default_tree() -> dict[str, Any]:
    return plain(compose([]))


@pytest.mark.parametrize("override", MISTAKES)
def test_a_mistake_is_reported_in_one_line(override: str, in_empty_folder: Callable[[], list[str]]) -> None:
    with pytest.raises(UserError, match=rf"\A(?:{MISTAKES[override]})\Z") as raised:
        compose([override])
    assert len(raised.value.lines) == 1
    assert in_empty_folder() == []


@pytest.mark.parametrize("override", OWN_FILES)
def test_a_mistake_in_a_users_file_is_reported_in_one_line(override: str, tmp_path: Path) -> None:
    content, message = OWN_FILES[override]
    file = tmp_path / f"{override.replace('=', '/')}.yaml"
    file.parent.mkdir()
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=rf"\A(?:{message})\Z") as raised:
        compose([f"hydra.searchpath=[file://{tmp_path}]", override])
    assert len(raised.value.lines) == 1


def test_a_users_file_may_have_any_file_name(tmp_path: Path) -> None:
    (tmp_path / "objective").mkdir()
    (tmp_path / "objective" / "bowl.yaml").write_text(
        "name: quadratic\ncurvature: 2\noffset: 0\nstart: i\nminimum: 0\n"
    )
    config = to_config(compose([f"hydra.searchpath=[file://{tmp_path}]", "objective=bowl", "objective.curvature=3.5"]))
    assert (config.objective.name, config.objective.parameters["curvature"]) == ("quadratic", 3.5)


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(UserError, match="lrr=1") as raised:
        compose(["lrr=1", "stepz=5", "lr=-1", "optimizer=gdd", "objective.dimension=0"])
    keys = [line.split("=")[0] for line in raised.value.lines]
    assert sorted(keys) == ["lr", "lrr", "objective.dimension", "optimizer", "stepz"]


@pytest.mark.parametrize("key", keys_of(Config))
@given(data=st.data())
def test_a_value_of_another_type_is_refused_with_its_key(key: str, data: st.DataObject) -> None:
    tree = default_tree()
    junk: st.SearchStrategy[Any] = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=2)
    )
    value = data.draw(junk)
    lines = list(problems(tree | {key: value}))
    if keys_of(Config)[key].constraint.accepts(value):
        assert lines == []
    else:
        assert any(line.startswith(f"{key}={shown(value)}: expected ") for line in lines)


def test_zero_and_empty_values_are_values() -> None:
    config = to_config(compose(["seed=0", "initial_weight=0", "objective.offset=0", "tags={}"]))
    assert (config.seed, config.initial_weight, config.objective.parameters["offset"], config.tags) == (0, 0, 0, {})


def test_a_tag_needs_no_plus_and_a_numeric_name_is_a_name() -> None:
    config = to_config(compose(["tags.team=blue", "tags={place: here, number: 0}", "name=2024"]))
    assert config.tags == {"team": "blue", "place": "here", "number": 0}
    assert config.name == "2024"


def test_nothing_is_recorded_with_tracking_off() -> None:
    tracking = to_config(compose(["tracking=off", "tracking.experiment=mine", "tracking.uri=sqlite:///a.db"])).tracking
    assert set(vars(tracking).values()) == {"off", None}


def test_the_command_line_overrides_an_experiment() -> None:
    config = to_config(compose(["experiment=seed", "lr=0.5"]))
    assert (config.lr, config.initial_weight) == (0.5, 10.0)


def test_configs_equal_those_that_hydra_composes() -> None:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    from runner.composition.composition import config_folder

    overrides = ["objective=rosenbrock", "lr=0.5", "experiment=seed", "+tags.a='x y'"]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        expected = hydra_compose("config", overrides)
    composed = compose(overrides)
    assert plain(composed) == OmegaConf.to_container(expected, resolve=True)


def test_every_key_is_explained_and_every_group_has_files() -> None:
    from runner.composition.composition import config_folder
    from runner.config.schema import key_help

    explained = [line.split()[0] for line in key_help().splitlines()]
    assert sorted([*explained, *GROUPS]) == sorted(plain(compose([])))
    assert all(list((config_folder() / group).glob("*.yaml")) for group in GROUPS)
