"""The language of sweeps: what Hydra's basic sweeper reads, and more."""

import math
import re
from decimal import Decimal
from itertools import count, islice, pairwise, product, takewhile
from typing import Any

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.errors import OverrideParseException
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.composition.override_functions import parser
from runner.messages.errors import UserError
from runner.sweeps.axes import Axis
from runner.sweeps.language import SweepRequest, sweep_request

PARSER = parser()


def asked(*arguments: str, **params: object) -> SweepRequest:
    return sweep_request(arguments, params, PARSER)


def points(*arguments: str, **params: object) -> list[list[str]]:
    request = asked(*arguments, **params)
    return [[str(one.input_line) for point in chosen for one in point] for chosen in request.combinations()]


def values(argument: str) -> list[object]:
    (axis,) = asked(argument).axes
    return [point[0].value() for point in axis.points]


KEYS = ("lr", "steps", "+tags.team", "++tags.who", "objective", "a.b.c")
ELEMENTS = st.one_of(
    st.integers(-5, 5).map(str),
    st.floats(-10, 10, allow_nan=False).map(repr),
    st.sampled_from(["true", "null", "word", "'it is'", "\"so: yes, 'quoted'\"", "[1,2]", "[a,'b c']", "{x:1,y:[2]}"]),
)
# What Hydra's functions take, and its basic sweeper writes so that it can be read again.
WORDS = st.one_of(st.integers(-5, 5).map(str), st.sampled_from(["true", "word", "[1,2]"]))
SWEEPS = st.one_of(
    ELEMENTS,
    st.lists(ELEMENTS, min_size=2, max_size=4).map(",".join),
    st.lists(WORDS, min_size=1, max_size=3).map(lambda items: f"choice({','.join(items)})"),
    st.tuples(st.integers(-3, 3), st.integers(4, 8)).map(lambda ends: f"range({ends[0]},{ends[1]})"),
    st.lists(st.integers(0, 9), min_size=2, max_size=4).map(lambda items: f"sort({','.join(map(str, items))})"),
)


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(KEYS), SWEEPS, min_size=1, max_size=4))
def test_what_hydras_basic_sweeper_reads_gives_the_same_jobs_in_the_same_order(swept: dict[str, str]) -> None:
    arguments = [f"{key}={value}" for key, value in swept.items()]
    (expected,) = BasicSweeper.split_arguments(PARSER.parse_overrides(arguments), None)
    made = [[one for point in chosen for one in point] for chosen in asked(*arguments).combinations()]
    assert len(made) == len(expected)
    for combination, hydras in zip(made, expected, strict=True):
        parsed = PARSER.parse_overrides(list(hydras))
        assert [(one.key_or_group, one.type, one.value()) for one in combination] == [
            (one.key_or_group, one.type, one.value()) for one in parsed
        ]
        again = PARSER.parse_overrides([str(one.input_line) for one in combination])
        assert [one.value() for one in again] == [one.value() for one in combination]


numbers = st.one_of(st.integers(-1000, 1000), st.floats(-1e6, 1e6, allow_nan=False, allow_subnormal=False))


@settings(max_examples=40)
@given(start=numbers, stop=numbers, n=st.integers(2, 40))
def test_linspace_has_exact_ends_and_equal_distances(start: float, stop: float, n: int) -> None:
    found = [float(str(value)) for value in values(f"lr=linspace({start},{stop},{n})")]
    assert (found[0], found[-1], len(found)) == (start, stop, n)
    steps = [after - before for before, after in pairwise(found)]
    assert max(steps) - min(steps) <= 1e-9 * (1 + abs(start) + abs(stop))


@settings(max_examples=40)
@given(start=st.integers(-20, 20), stop=st.integers(-20, 20), n=st.integers(2, 20))
def test_logspace_takes_exponents_and_its_ends_are_exact(start: int, stop: int, n: int) -> None:
    found = values(f"lr=logspace({start},{stop},{n})")
    assert (found[0], found[-1], len(found)) == (10.0**start, 10.0**stop, n)


@settings(max_examples=40)
@given(start=st.floats(1e-6, 1e6), stop=st.floats(1e-6, 1e6), n=st.integers(2, 20), sign=st.sampled_from([1, -1]))
def test_geomspace_has_exact_ends_and_equal_ratios(start: float, stop: float, n: int, sign: int) -> None:
    found = [float(str(value)) for value in values(f"lr=geomspace({sign * start},{sign * stop},{n})")]
    assert (found[0], found[-1]) == (sign * start, sign * stop)
    ratios = [after / before for before, after in pairwise(found)]
    assert all(math.isclose(ratio, ratios[0], rel_tol=1e-9) for ratio in ratios)


def test_the_command_line_overrides_the_sweep_of_the_config() -> None:
    assert points("lr=5", lr="1,2", steps="linspace(1,3,3)") == [
        ["lr=5", "steps=1.0"],
        ["lr=5", "steps=2.0"],
        ["lr=5", "steps=3.0"],
    ]
    assert points(lr=0.1, initial_weight=[1, 2]) == [["lr=0.1", "initial_weight=[1,2]"]]


def test_zipped_keys_vary_together() -> None:
    request = asked("lr=1,2,3", "dtype=float32,float64", "steps=10,20,30", "zip=[[lr,steps]]")
    assert [axis.keys for axis in request.axes] == [("lr", "steps"), ("dtype",)]
    made = [[str(one.input_line) for point in chosen for one in point] for chosen in request.combinations()]
    expected = product(zip(["lr=1", "lr=2", "lr=3"], ["steps=10", "steps=20", "steps=30"], strict=True), ("32", "64"))
    assert made == [[*pair, f"dtype=float{bits}"] for pair, bits in expected]
    assert asked("lr=1,2", "steps=1,2", "zip=[lr,steps]").axes == asked("lr=1,2", "steps=1,2", "zip=[[lr,steps]]").axes


def test_zipped_keys_may_have_a_sign_or_none() -> None:
    for typed in ("tags.a=1,2", "+tags.a=1,2", "++tags.a=1,2"):
        for named in ("tags.a", "+tags.a", "++tags.a"):
            (axis,) = asked(typed, "lr=3,4", f"zip=[[lr,{named}]]").axes
            assert axis.keys == ("lr", "tags.a")


def test_a_later_override_replaces_an_earlier_one_only_if_it_overrides_all_of_it() -> None:
    assert points("lr=1,2", "lr=3") == [["lr=3"]]
    assert points("++lr=1,2", "++lr=3") == points("lr=1,2", "++lr=3") == [["++lr=3"]]
    assert points("tags={a:1}", "tags={b:2}") == [["tags={a:1}", "tags={b:2}"]]
    assert points("++tags.a=1", "~tags.a", "++tags.a=2") == [["++tags.a=1", "~tags.a", "++tags.a=2"]]


def test_points_are_those_of_decimal_arithmetic() -> None:
    assert values("lr=linspace(0,1,11)") == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert values("lr=geomspace(1,256,9)") == [2.0**power for power in range(9)]
    assert values("steps=int(linspace(10,30,3))") == [10, 20, 30]


def test_a_condition_reads_dotted_keys() -> None:
    condition = asked("where='lr*steps <= 100 and optimizer.momentum > 0.5'").where
    assert condition is not None
    tree = {"lr": 0.1, "steps": 1000, "optimizer": {"momentum": 0.9}}
    assert condition.holds(tree)
    assert not condition.holds(tree | {"steps": 1001})
    with pytest.raises(UserError, match=r"where=.*no key 'optimizer.momentum'; did you mean 'momentums'"):
        condition.holds(tree | {"optimizer": {"momentums": 1}})
    with pytest.raises(UserError, match=r"expected numbers, lr is fast"):
        condition.holds(tree | {"lr": "fast"})


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("optimizer == 'adam'", True),
        ("optimizer.name != 'adam' or lr < 1", True),
        ("not (optimizer == 'gd' or objective.target == 'my.mod:f')", False),
        ("optimizer == 'my.adam'", False),
        ("0.1 < lr <= 0.5 and steps == 10", True),
        ("not lr > 0.2", False),
        ("clip_norm == 'null'", False),
        ("2**steps == 1024 and steps**2 == 100 and steps**-1 < 0.2", True),
        ("seed == 2**53 and seed - 1 < 2**53", True),
    ],
)
def test_a_condition_compares_numbers_and_texts(condition: str, holds: bool) -> None:
    tree = {
        "lr": 0.5,
        "steps": 10,
        "seed": 2**53,
        "optimizer": {"name": "adam"},
        "objective": {"target": "my.mod:f"},
        "clip_norm": None,
    }
    where = asked(f'where="{condition}"').where
    assert where is not None
    assert where.holds(tree) is holds


@pytest.mark.parametrize(
    "condition",
    [
        "1/(steps - 10) > 0",
        "log(steps - 10) > 0",
        "(0 - lr)**0.5 > 0",
        "(0 - lr)**0.5 == 3",
        "10.0**steps**3 > 0",
        "seed**steps**steps < 1",
        "(seed*seed)**(steps*steps*steps) < 1",
        "((steps**90)**90)**90 > 1",
        "(0 - seed)**seed < 1",
        "*".join(["steps**300"] * 9) + " > 1",
        "optimizer == 'a' or optimizer*seed == 1",
        "steps + optimizer > 1 and optimizer != 'b'",
        "seed**-seed/0 < 1",
    ],
)
def test_a_condition_without_a_value_is_an_error(condition: str) -> None:
    where = asked(f'where="{condition}"').where
    assert where is not None
    with pytest.raises(UserError, match="has no value"):
        where.holds({"lr": 0.5, "steps": 10, "seed": 10**17, "optimizer": {"name": "adam"}})


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["lr=linspace(0,1,5),2"], "expected a space such as linspace"),
        (["lr=choice(linspace(0,1,5),2)"], "expected a space such as linspace"),
        (["lr=[linspace(0,1,5)]"], "expected a space such as linspace"),
        (["lr={a:logspace(0,1,5)}"], "expected a space such as linspace"),
        (["lr=interval(0,1)"], "a grid cannot use an interval"),
        (["repeats=0"], "repeats=0: expected a whole number of at least 1"),
        (["repeats=1.5"], "repeats=1.5: expected a whole number of at least 1"),
        (["repeats=2,3"], "repeats=2,3: expected one value"),
        (["repeats=2", "seed=1,2"], "repeats=2: expected without a swept seed"),
        (["zip=[[lr,steps]]", "lr=1,2"], "'steps' is not swept"),
        (["zip=[[lr,step]]", "lr=1,2", "steps=1,2"], "'step' is not swept; did you mean 'steps'?"),
        (["zip=[[lr,steps]]", "lr=1,2", "steps=1,2,3"], "expected as many values for each, lr has 2, steps has 3"),
        (["zip=[[lr,tags]]", "lr=1,2", "tags={a:1},{b:2}", "tags={c:1},{d:2}"], "'tags' is swept 2 times"),
        (["repeats=2", "++seed=1,2"], "repeats=2: expected without a swept seed"),
        (["zip=[[lr]]", "lr=1,2"], "expected at least two different keys"),
        (["zip=5"], "expected lists of swept keys"),
        (["zip=zip(lr,steps)"], "'zip=zip(lr,steps)': not a valid override"),
        (["repeats=linspace(1,2)"], "missing a required argument: 'n'"),
        (["where='lr <'"], "where=lr <: at column"),
        (["where='optimizer.momentum < f(1)'"], "where=optimizer.momentum < f(1): at column 22"),
        (["where=\"lr < 'a'\""], "where=lr < 'a': at column 6: 'a', expected a number"),
        (["where='f(lr).x > 1'"], "an attribute is not allowed in a formula"),
        (["where='__import__(1)'"], "where="),
        (["resume=''"], "resume=''"),
    ],
)
def test_ambiguous_sweeps_are_refused(arguments: list[str], line: str) -> None:
    with pytest.raises(UserError, match=re.escape(line)):
        asked(*arguments)


def test_quotes_within_a_function_are_kept() -> None:
    (axis,) = asked('name=choice(\'so: yes, "quoted"\',"it\'s")').axes
    assert [PARSER.parse_overrides([str(point[0].input_line)])[0].value() for point in axis.points] == [
        'so: yes, "quoted"',
        "it's",
    ]


# Each function of the grammar with the values that it should give.
GIVEN: dict[str, list[Any]] = {
    "range(4)": [0, 1, 2, 3],
    "range(2,5)": [2, 3, 4],
    "range(5,0,-2)": [5, 3, 1],
    "range(start=1,stop=8,step=3)": [1, 4, 7],
    "range(0,1,0.25)": [0.0, 0.25, 0.5, 0.75],
    "range(0.1,0.4,0.1)": [0.1, 0.2, 0.3],
    "range(0.1,1.0,0.1)": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
    "range(1.3,0,-0.5)": [1.3, 0.8, 0.3],
    "range(1.0,3)": [1.0, 2.0],
    "range(1e-3,3.5e-3,1e-3)": [0.001, 0.002, 0.003],
    "sort(range(1.3,0,-0.5))": [0.3, 0.8, 1.3],
    "sort(range(1,10,4),reverse=true)": [9, 5, 1],
    "sort(range(9,0,-4))": [1, 5, 9],
    "sort(range(9,0,-4),reverse=true)": [9, 5, 1],
    "sort(range(0,1,0.3),reverse=true)": [0.9, 0.6, 0.3, 0.0],
    "sort(shuffle(range(5)))": [0, 1, 2, 3, 4],
    "sort(shuffle(choice(3,1,2)))": [1, 2, 3],
    "sort(range(3,4))": [3],
    "sort(3,1,2)": [1, 2, 3],
    "shuffle(5)": [5],
    "sort(5)": [5],
    "sort(3,1,2,reverse=true)": [3, 2, 1],
    "sort(choice(b,a,'c d'))": ["a", "b", "c d"],
    "sort(sweep=range(2,-1,-1))": [0, 1, 2],
    "sort([3,1,2])": [[1, 2, 3]],
    "sort(linspace(1,0,3))": [0.0, 0.5, 1.0],
    "sort(logspace(0,2,3),reverse=true)": [100.0, 10.0, 1.0],
    "sort(int(linspace(10,1,4)))": [1, 4, 7, 10],
    "choice(a)": ["a"],
    "choice(1,2.5,true,null,[1,2],{x:1})": [1, 2.5, True, None, [1, 2], {"x": 1}],
    "choice(1,2,1)": [1, 2, 1],
    "choice(' a','','true','1e3','null')": [" a", "", "true", "1e3", "null"],
    "tag(mine,choice(1,2))": [1, 2],
    "tag(a,b,range(3))": [0, 1, 2],
    "int(1.9)": [1],
    "int('3',4.7,true)": [3, 4, 1],
    "int([1.5,'2'])": [[1, 2]],
    "int({a:1.5})": [{"a": 1}],
    "int(range(0.5,3,0.5))": [0, 1, 1, 2, 2],
    "int(range(1.2,5.7,1.5))": [1, 2, 4],
    "int(geomspace(1,100,3))": [1, 10, 100],
    "float(range(1,4))": [1.0, 2.0, 3.0],
    "float(1,'2.5')": [1.0, 2.5],
    "float(int(range(0.5,3,1)))": [0.0, 1.0, 2.0],
    "str(1)": ["1"],
    "str(1,2.5,true)": ["1", "2.5", "true"],
    "str(range(3))": ["0", "1", "2"],
    "str([1,2])": [["1", "2"]],
    "bool(0,1,'false')": [False, True, False],
    "bool(range(-1,2))": [True, False, True],
    "json": ["json"],
    "linspace(1,0,5)": [1.0, 0.75, 0.5, 0.25, 0.0],
    "linspace(0.1,0.4,4)": [0.1, 0.2, 0.3, 0.4],
    "linspace(start=0,stop=1,n=2)": [0.0, 1.0],
    "logspace(-3,0,4)": [0.001, 0.01, 0.1, 1.0],
    "geomspace(0.001,1000,7)": [0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0],
    "geomspace(-8,-1,4)": [-8.0, -4.0, -2.0, -1.0],
}


@pytest.mark.parametrize("call", GIVEN, ids=str)
def test_functions_return_the_expected_values(call: str) -> None:
    (axis,) = asked(f"lr={call}").axes
    found = [point[0].value() for point in axis.points]
    assert found == GIVEN[call]
    assert list(map(type, found)) == list(map(type, GIVEN[call]))
    read_again = PARSER.parse_overrides([str(point[0].input_line) for point in axis.points])
    assert [one.value() for one in read_again] == GIVEN[call]


def test_shuffled_values_are_complete_and_keep_one_order() -> None:
    for call in ("shuffle(range(20))", "int(shuffle(range(0.5,20,1)))", "shuffle(int(linspace(0,19,20)))"):
        found = values(f"steps={call}")
        assert sorted(map(str, found)) == sorted(map(str, range(20)))
        assert found != list(range(20))
    assert sorted(map(str, values("lr=str(shuffle(choice(2,1)))"))) == ["1", "2"]
    ((override,),) = asked("initial_weight=shuffle([1,2,3,4,5,6,7,8])").axes[0].points
    assert PARSER.parse_overrides([str(override.input_line)])[0].value() == override.value()


ends = st.one_of(st.integers(-50, 50), st.decimals(-5, 5, places=2).map(float))


@settings(max_examples=100)
@given(start=ends, stop=ends, step=ends.filter(bool), reverse=st.booleans())
def test_a_range_is_that_of_decimal_arithmetic(start: float, stop: float, step: float, reverse: bool) -> None:
    first, end, distance = (Decimal(str(number)) for number in (start, stop, step))
    numbers = islice((first + place * distance for place in count()), 20_000)
    expected = list(takewhile(lambda at: at < end if distance > 0 else at > end, numbers))
    if not expected:
        with pytest.raises(UserError, match="expected at least one value"):
            asked(f"lr=range({start},{stop},{step})")
        return
    assert values(f"lr=range({start},{stop},{step})") == [float(at) for at in expected]
    in_order = sorted((float(at) for at in expected), reverse=reverse)
    assert values(f"lr=sort(range({start},{stop},{step}),reverse={reverse})") == in_order


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["lr=range(0,1000000000)"], "1,000,000,000 jobs, expected at most 1,000,000, or max_jobs=... for more"),
        (["lr=range(0,1,1e-300)"], "about 1e300 jobs"),
        (["lr=linspace(0,1,1000000000)"], "1,000,000,000 jobs"),
        (["lr=sort(shuffle(geomspace(1,1e300,1000000000)))"], "1,000,000,000 jobs"),
        (["lr=int(logspace(0,1,1000000000))"], "1,000,000,000 jobs"),
        (["lr=str(range(1000000000))"], "1,000,000,000 texts: expected at most 1,000,000"),
        (["lr=range(10000)", "seed=range(10000)"], "lr 10,000 x seed 10,000: 100,000,000 jobs"),
        (["lr=range(1000)", "repeats=100000000000"], "lr 1,000 x repeats 100,000,000,000: 100,000,000,000,000 jobs"),
        (["lr=range(10)", "max_jobs=9"], "lr=range(10): 10 jobs, expected at most 9"),
        (["lr=range(10)", "steps=range(10)", "zip=[[lr,steps]]", "repeats=2", "max_jobs=19"], "lr and steps 10"),
        (["max_jobs=0"], "max_jobs=0: expected a whole number of at least 1"),
        (["max_jobs=many"], "max_jobs=many: expected a whole number of at least 1"),
    ],
)
def test_too_many_jobs_are_refused_before_planning(arguments: list[str], line: str) -> None:
    with pytest.raises((UserError, OverrideParseException), match=re.escape(line)):
        asked(*arguments)


def test_the_limit_of_jobs_may_be_raised() -> None:
    assert len(asked("lr=range(1000)", "steps=range(1000)", "repeats=2", "max_jobs=2000000").axes) == 2
    assert asked("lr=range(20)", "max_jobs=20").texts == ("lr=range(20)",)


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("lr=range(5,1)", "expected at least one value"),
        ("lr=range(1,5,0)", r"range\(1,5,0\): expected finite numbers, and a step that is not 0"),
        ("lr=range(0,inf)", "expected finite numbers"),
        ("lr=range(nan,3)", "expected finite numbers"),
        ("lr=range(true,3)", "expected finite numbers"),
        ("lr=range(a,b)", "expected finite numbers"),
        ("lr=int(null)", "expected numbers, texts, true or false"),
        ("lr=int(a)", "invalid literal for int"),
        ("lr=sort(1,a)", "not supported between"),
    ],
)
def test_a_function_without_values_is_an_error(argument: str, line: str) -> None:
    with pytest.raises((UserError, OverrideParseException), match=line):
        asked(argument)


def test_ten_thousand_points_are_one_axis() -> None:
    (axis,) = asked("lr=linspace(0,1,10000)").axes
    assert isinstance(axis, Axis)
    assert len(axis.points) == 10000
