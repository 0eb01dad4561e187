"""Jobs have the configs that Hydra itself would compose for their overrides."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.composition.composition import compose, compose_sweep, to_config
from runner.composition.override_functions import parser
from runner.config.schema import Config
from runner.messages.errors import UserError
from runner.sweeps.job import Job
from tests.support.compositions import jobs_of


def composed_by_hydra(job: Job) -> Config:
    return to_config(compose(list(job.overrides)))


AXES = {
    "lr": ["0.1,0.2", "logspace(-3,-1,3)", "1e-3", "choice(0.5,1)"],
    "steps": ["10,20", "range(5,8)", "7"],
    "seed": ["1,2", "3"],
    "dtype": ["float32,float64", "'float64'"],
    "initial_weight": ["1,2", "[3],[4]", "null,5", "[6]"],
    "optimizer": ["gd,adam", "momentum", "glob(adam*)"],
    "schedule": ["constant,cosine", "exponential"],
    "objective": ["quadratic", "quadratic,rastrigin"],
    "objective.start": ["5,6"],
    "schedule.warmup_steps": ["1,2", "3"],
    "optimizer.weight_decay": ["0,0.1"],
    "name": ["'it is','so: yes, \"quoted\"'", "plain", "${dtype}"],
    "tags.team": ["blue,red", "'a b'"],
    "+tags.who": ["me,you"],
    "++tags.many": ["1,2"],
    "tags": ["{a:1,b:two}", "{a:1},{b:2}"],
    "+stop.extra": [],
    "log_every": ["1,2", "${steps}"],
    "quiet": ["true,false"],
    "tracking": ["off", "sqlite,off"],
    "~tags": [],
    "tracking.experiment": ["mine,yours"],
}
# Of a sweep's jobs, evenly spread: Hydra takes a tenth of a second for each.
LOOKED_AT = 5
CHOSEN = {key: texts for key, texts in AXES.items() if texts}


@settings(max_examples=12)
@given(data=st.data())
def test_every_job_has_the_config_that_hydra_composes_for_its_overrides(data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.sampled_from(sorted(CHOSEN)), min_size=1, max_size=4, unique=True))
    arguments = [f"{key}={data.draw(st.sampled_from(CHOSEN[key]))}" for key in keys]
    jobs = jobs_or_none(arguments)
    if jobs is None:
        assert any(_refused(arguments)), arguments
    for job in (jobs or [])[:: 1 + len(jobs or []) // LOOKED_AT]:
        assert job.config == composed_by_hydra(job), job.overrides


# Whatever is set twice, in any order, merges or replaces as it does in a run.
SET = [
    "lr=0.1", "lr=0.2", "++lr=0.3", "+lr=0.4", "~lr", "lr={a:1}", "initial_weight=[1]", "initial_weight=[2]",
    "tags={a:1}", "tags={b:2}", "tags={a:{b:1}}", "tags={}", "tags=null", "tags.a=1", "+tags.a=2", "++tags.a=3",
    "~tags.a", "~tags", "~tags.a=1", "tags.b='x y'", "tags.c=${tags.a}",
    "stop={loss_change:{below:1}}", "stop.loss_change={below:2}", "stop.loss_change={window:3}",
    "stop.loss_change.below=4", "++stop.loss_change={below:5,window:6}", "+stop.loss_change={window:7}",
    "stop.loss_change=null", "~stop.loss_change.below", "stop=rules", "stop={target_loss:8}",
    "optimizer=gd", "optimizer=adam", "optimizer={eps:1e-3}", "optimizer.eps=1e-4", "++optimizer={eps:1e-5}",
    "optimizer={betas:[0.5,0.6]}", "optimizer.betas=[0.7,0.8]", "schedule=cosine", "schedule={warmup_steps:2}",
    "objective=rosenbrock", "objective={start:[3,4]}", "objective.start=[5,6]", "diagnostics={curvature:true}",
    "diagnostics.curvature=false", "tracking=off", "tracking={experiment:mine}", "tracking.experiment=yours",
]  # fmt: skip


@settings(max_examples=10)
@given(st.lists(st.sampled_from(SET), min_size=2, max_size=5))
def test_the_same_overrides_give_the_same_config_with_and_without_m(arguments: list[str]) -> None:
    try:
        alone = to_config(compose(arguments))
    except UserError:
        assert jobs_or_none(arguments) is None
    else:
        (job,) = jobs_of(arguments)
        assert job.config == alone


@settings(max_examples=8)
@given(st.lists(st.sampled_from(SET), min_size=1, max_size=3), st.data())
def test_mappings_set_twice_merge_in_every_job(arguments: list[str], data: st.DataObject) -> None:
    swept = data.draw(st.sampled_from(["tags={a:1},{b:2}", "stop.loss_change={below:1},{window:2}", "lr=1,2"]))
    arguments.insert(data.draw(st.integers(0, len(arguments))), swept)
    for job in jobs_or_none(arguments) or []:
        assert job.config == composed_by_hydra(job), job.overrides


@pytest.mark.parametrize(
    ("arguments", "configs"),
    [
        (["stop.loss_change={below:1},{below:2}", "stop.loss_change={window:3}"], [(1, 3), (2, 3)]),
        (["stop.loss_change.below=4,5", "stop.loss_change={below:1,window:3}"], [(1, 3), (1, 3)]),
        (["stop={loss_change:{below:1}},{loss_change:{below:2}}", "stop.loss_change.window=3"], [(1, 3), (2, 3)]),
        (["stop.loss_change={below:9}", "stop.loss_change.below=1,2", "lr=1,2", "zip=[[lr,stop.loss_change.below]]"],
         [(1, 100), (2, 100)]),
    ],
)  # fmt: skip
def test_swept_mappings_merge_with_other_overrides_of_the_same_key(
    arguments: list[str], configs: list[tuple[int, int]]
) -> None:
    changes = [job.config.stop.loss_change for job in jobs_of(arguments)]
    assert [(change.below, change.window) for change in changes] == configs


def test_mappings_of_swept_groups_merge_in_their_order() -> None:
    given = ["optimizer={eps:1e-3}", "optimizer.eps=1e-4,1e-5", "++optimizer={weight_decay:0.5}"]
    jobs = jobs_of(["optimizer=adam,rmsprop", *given])
    assert [(job.config.optimizer.settings["eps"], job.config.optimizer.settings["weight_decay"]) for job in jobs] == [
        (1e-4, 0.5), (1e-5, 0.5), (1e-4, 0.5), (1e-5, 0.5),
    ]  # fmt: skip
    assert all(job.config == composed_by_hydra(job) for job in jobs)


def jobs_or_none(arguments: Sequence[str]) -> list[Job] | None:
    try:
        return jobs_of(arguments)
    except UserError:
        return None


def _refused(arguments: Sequence[str]) -> list[bool]:
    """Return for each combination whether Hydra refuses to compose it."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    loader, _ = compose_sweep([])
    (combinations,) = BasicSweeper.split_arguments(parser(loader).parse_overrides(list(arguments)), None)
    refused = []
    for overrides in combinations:
        try:
            to_config(compose(list(overrides)))
        except UserError:
            refused.append(True)
        else:
            refused.append(False)
    return refused


def test_interpolations_of_swept_values_are_resolved_for_each_job() -> None:
    jobs = jobs_of(["steps=10,20", "log_every=${steps}", "name=at_${lr}", "lr=0.1,0.2"])
    assert [(job.config.log_every, job.config.name) for job in jobs] == [
        (10, "at_0.1"), (10, "at_0.2"), (20, "at_0.1"), (20, "at_0.2"),
    ]  # fmt: skip


def test_any_number_of_jobs_may_have_interpolations() -> None:
    assert [job.config.name for job in jobs_of(["lr=range(1,1200)", "name=at_${lr}"])][-1] == "at_1199"


@pytest.mark.parametrize(
    "arguments",
    [
        [
            "seed=5",
            "steps=10,20",
            "schedule=step",
            "schedule.step_size=${seed}",
            "name='${lr} ${seed}'",
            "lr=1,2",
            "repeats=2",
        ],
        ["initial_weight=['${lr}',2]", "objective=rosenbrock", "lr=0.1,0.2", "tags.a=${initial_weight.0}"],
        ["name=a,b", "tags.a=1", "tags.b=2", "tags.chosen='${tags.${name}}'"],
        ["name=b,a", "tags.b=2", "tags.c='${oc.select:tags.${name},none}'"],
        ["optimizer=adam,rmsprop", "optimizer.eps=${objective.curvature}", "objective.curvature=1,2"],
        ["tags.x=${objective.start}", "objective.start=3,4", "initial_weight=${tags.x}"],
        ["log_every=${stop.loss_change.window}", "stop.loss_change.window=3,4", "stop.loss_change.below=1,null"],
    ],
)
def test_interpolations_of_swept_values_equal_those_of_hydra(arguments: list[str]) -> None:
    jobs = jobs_of(arguments)
    assert [job.config for job in jobs] == [composed_by_hydra(job) for job in jobs]


def test_an_interpolation_that_fails_in_some_jobs_is_reported_for_them() -> None:
    with pytest.raises(UserError, match=r"cannot be resolved.*\(job name=nowhere\)"):
        jobs_of(["name=nowhere,a", "tags.a=1", "tags.chosen='${tags.${name}}'"])
    with pytest.raises(UserError, match=r"cannot be resolved.*\(job name=nowhere\)"):
        jobs_of(["name=a,nowhere", "tags.a=1", "tags.chosen='${tags.${name}}'"])


@pytest.mark.parametrize("composed", [compose, compose_sweep])
@pytest.mark.parametrize(
    "override", ["lr=[linspace(0,1,5)]", "optimizer=[glob(a*)]", "tags={a:glob(*)}", "initial_weight={a:range(3)}"]
)
def test_a_sweep_within_a_value_is_an_error(override: str, composed: Callable[[list[str]], Any]) -> None:
    with pytest.raises(UserError, match=f"{re.escape(override)}: expected a space such as linspace"):
        composed([override])


def test_the_number_of_jobs_of_hydras_basic_sweeper_is_limited() -> None:
    with pytest.raises(UserError, match="lr 1,000,000,000 x seed 2: 2,000,000,000 jobs, expected at most 1,000,000"):
        jobs_of(["hydra/sweeper=basic", "lr=range(1000000000)", "seed=1,2"])
    with pytest.raises(UserError, match="lr: expected at least one value"):
        jobs_of(["hydra/sweeper=basic", "lr=range(5,1)"])
    with pytest.raises(UserError, match=r"hydra\.sweeper\.params\.max_jobs: not allowed in a config file"):
        jobs_of(["lr=0.1,0.2"], {"max_jobs": 5})


def test_the_same_job_runs_with_several_seeds() -> None:
    jobs = jobs_of(["lr=0.1,0.2", "repeats=3", "seed=5"])
    assert [(job.config.lr, job.config.seed) for job in jobs] == [(lr, seed) for lr in (0.1, 0.2) for seed in (5, 6, 7)]
    assert jobs[1].name == "lr=0.1 seed=6"
    assert composed_by_hydra(jobs[1]) == jobs[1].config


def test_a_condition_excludes_combinations() -> None:
    jobs = jobs_of(["lr=0.1,0.5", "steps=10,100", "where='lr*steps <= 10'"])
    assert [job.name for job in jobs] == ["lr=0.1 steps=10", "lr=0.1 steps=100", "lr=0.5 steps=10"]
    with pytest.raises(UserError, match="no job, it is false for all 4 combinations"):
        jobs_of(["lr=0.1,0.5", "steps=10,100", "where='lr > 1'"])


def test_one_value_may_be_given_to_all_the_options_of_a_swept_group() -> None:
    jobs = jobs_of(["optimizer=adam,adamax", "optimizer.eps=1e-7", "~optimizer.betas", "++optimizer.betas=[0.5,0.6]"])
    assert [(job.config.optimizer.settings["eps"], job.config.optimizer.settings["betas"]) for job in jobs] == [
        (1e-7, [0.5, 0.6])
    ] * 2
    assert [job.name for job in jobs] == ["optimizer=adam", "optimizer=adamax"]
    with pytest.raises(UserError, match=r"optimizer.eps=1e-7: unknown key.*\(job optimizer=gd\)"):
        jobs_of(["optimizer=adam,gd", "optimizer.eps=1e-7"])


def test_combinations_that_a_condition_excludes_are_not_validated() -> None:
    jobs = jobs_of(
        ["schedule=cosine", "schedule.warmup_steps=3,50", "steps=10,100", "where='schedule.warmup_steps < steps'"]
    )
    assert [(job.config.schedule.warmup_steps, job.config.steps) for job in jobs] == [(3, 10), (3, 100), (50, 100)]
    with pytest.raises(UserError, match="lr=fast: expected a finite number above 0"):
        jobs_of(["lr=0.1,fast", "where='lr > 0'"])


def test_interpolations_use_the_seed_of_each_repeat() -> None:
    jobs = jobs_of(["name=run_${seed}", "repeats=2", "seed=5", "objective.offset=${seed},1"])
    assert [job.config.name for job in jobs] == ["run_5", "run_6"] * 2
    assert [job.config.objective.parameters["offset"] for job in jobs] == [5, 6, 1, 1]
    assert all(job.config == composed_by_hydra(job) for job in jobs)
    with pytest.raises(UserError, match="seed=null: expected a whole number, the seed of the first of the repeats"):
        jobs_of(["seed=null", "repeats=2"])


def test_the_errors_of_all_jobs_are_reported_together() -> None:
    with pytest.raises(UserError, match=r"lr=-3\.0: expected a finite number above 0") as raised:
        jobs_of(["lr=linspace(-3,3,7)", "optimizer=gd,adam"])
    assert raised.value.lines[0] == "lr=-3.0: expected a finite number above 0 (job lr=-3.0 optimizer=gd and 1 more)"
    assert len(raised.value.lines) == 4
    with pytest.raises(UserError, match="optimizer=adamm: expected one of") as raised:
        jobs_of(["optimizer=gd,adamm", "lr=0.1,0.2"])
    assert raised.value.lines[0].startswith("optimizer=adamm: expected one of")
    assert raised.value.lines[0].endswith("(job optimizer=adamm lr=0.1 and 1 more)")


def test_a_parameter_of_an_option_may_be_swept_with_the_option_chosen() -> None:
    jobs = jobs_of(["optimizer=adam", "optimizer.betas=[0.8,0.9],[0.9,0.99]", "optimizer.eps=logspace(-9,-7,3)"])
    assert [job.config.optimizer.settings["betas"] for job in jobs] == [[0.8, 0.9]] * 3 + [[0.9, 0.99]] * 3
    assert jobs[0].config.optimizer.settings["eps"] == 10.0**-9
