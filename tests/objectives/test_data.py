"""Data from files and from the user's code: what is read, how it is split and standardised, and what is refused."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import save_file

from runner.composition.composition import compose, to_config
from runner.config.data_settings import DataSettings
from runner.config.schema import Config
from runner.engine.batches import member_of
from runner.execution.recording import expected_tags
from runner.messages.errors import UserError
from runner.objectives.data import load
from runner.sweeps.fingerprint import fingerprint
from tests.support.descents import QUIET, done


def config_of(*overrides: str) -> Config:
    return to_config(compose([*QUIET, *overrides]))


CPU = torch.device("cpu")
TRAIN = ["steps=40", "lr=0.1", "log_every=40", "allow_code=true"]
COUNT = 60


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def numbers() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(COUNT, 2)).round(4)


def write_csv(path: Path, rows: list[str], header: str = "a,b,target") -> None:
    path.write_text("\n".join([header, *rows, ""]))


def labelled() -> list[tuple[float, float, str]]:
    return [(a, b, "yes" if a + b > 0 else "no") for a, b in numbers().tolist()]


def test_the_same_samples_of_any_kind_of_file_and_of_code_are_the_same_run(folder: Path) -> None:
    rows = labelled()
    features, words = np.array([row[:2] for row in rows]), np.array([row[2] for row in rows])
    write_csv(folder / "d.csv", [f"{a},{b},{word}" for a, b, word in rows])
    parquet.write_table(
        pyarrow.table({"a": features[:, 0], "b": features[:, 1], "target": words}), folder / "d.parquet"
    )
    np.savez(folder / "d.npz", x=features, target=words, unused=np.zeros(3))
    whole = torch.tensor([word == "yes" for word in words]).long() * 5 - 3
    save_file({"x": torch.tensor(features), "y": whole}, folder / "d.safetensors")
    (folder / "given_data.py").write_text(
        "import torch\nfrom safetensors.torch import load_file\n"
        "def pair():\n    found = load_file('d.safetensors')\n    return found['x'], found['y']\n"
        "class Mine(torch.utils.data.Dataset):\n"
        "    def __len__(self): return len(pair()[1])\n"
        "    def __getitem__(self, index): return pair()[0][index], pair()[1][index]\n"
    )
    given = [
        ["objective.dataset=d.csv"],
        ["objective.dataset=d.parquet", "objective.features=[a,b]"],
        ["objective.dataset=d.npz", "objective.features=[x]"],
        ["objective.dataset=d.safetensors", "objective.target_column=y"],
        ["objective.dataset=given_data:pair"],
        ["objective.dataset=given_data:Mine"],
    ]
    weights = [done("objective=logistic_regression", *TRAIN, *one)[0].weight for one in given]
    assert all(torch.equal(weight, weights[0]) for weight in weights)
    assert weights[0].abs().max() > 0.1


def test_labels_are_numbered_in_their_order_and_told(folder: Path) -> None:
    write_csv(folder / "d.csv", [f"{a},{b},{index % 3 * 4 - 4}" for index, (a, b) in enumerate(numbers())])
    split = load(DataSettings("d.csv", 0.2, task="classification"), torch.float32, CPU)
    assert split.labels == ("-4", "0", "4")
    assert split.train.classes == 3
    assert set(split.train.targets.tolist()) == {0, 1, 2}
    asked = ["objective=mlp", "objective.dataset=d.csv", "objective.task=classification"]
    assert expected_tags(config_of(*asked))["data.labels"] == "-4, 0, 4"


def test_only_the_training_part_standardises(folder: Path) -> None:
    write_csv(folder / "d.csv", [f"{a * 5 + 7},2,{a + 3 * b}" for a, b in numbers()])
    train, held = (load(DataSettings("d.csv", 0.25), torch.float64, CPU).__dict__[key] for key in ("train", "held_out"))
    assert (len(train.features), len(held.features)) == (45, 15)
    assert train.features[:, 0].mean().abs() < 1e-12
    assert train.features[:, 0].std() == pytest.approx(1)
    assert held.features[:, 0].mean().abs() > 1e-6
    assert train.features[:, 1].abs().max() == 0
    assert train.targets.std() == pytest.approx(1)
    raw = load(DataSettings("d.csv", 0.25, standardize=False), torch.float64, CPU)
    assert raw.train.features[:, 1].tolist() == [2.0] * 45


def test_integers_that_are_not_standardised_stay_integers_for_a_module_and_are_numbers_for_a_model(
    folder: Path,
) -> None:
    np.savez(folder / "d.npz", x=np.arange(120, dtype=np.uint8).reshape(60, 2), target=np.arange(60) % 2)
    settings = DataSettings("d.npz", 0.2, task="classification", standardize=False)
    assert load(settings, torch.float32, CPU).train.features.dtype == torch.int64
    asked = ["objective=logistic_regression", "objective.dataset=d.npz", "objective.standardize=false"]
    assert done(*asked, "steps=2", "lr=1e-5")[0].weight.isfinite().all()


def test_a_changed_file_changes_the_digest_the_fingerprint_and_the_run(folder: Path) -> None:
    config = config_of("objective=linear_regression", "objective.dataset=d.csv")
    path = folder / "d.csv"
    write_csv(path, [f"{a},{b},{a - b}" for a, b in numbers()])
    before = fingerprint(config), expected_tags(config)["data.sha256"], member_of(config).objective
    assert before[1] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert fingerprint(config) == before[0]
    write_csv(path, [f"{a},{b},{a + b}" for a, b in numbers()])
    after = fingerprint(config), expected_tags(config)["data.sha256"], member_of(config).objective
    assert all(one != other for one, other in zip(before, after, strict=True))


def whole(rows: list[str], header: str = "a,b,target") -> Callable[[Path], None]:
    return lambda folder: write_csv(folder / "d.csv", rows, header)


PLAIN = [f"{a},{b},{a - b}" for a, b in numbers()]
ONE_CLASS = [f"{a},{b},7" for a, b in numbers()]
CLASSES = "objective.task=classification"


@pytest.mark.parametrize(
    ("make", "overrides", "message"),
    [
        (whole(PLAIN), ["objective.dataset=e.csv"], r"dataset=e.csv: no such file in .*; did you mean 'd.csv'\?"),
        (whole(PLAIN), ["objective.dataset=d.txt"], r"dataset=d.txt: expected a file that ends with .csv, .parquet"),
        (
            whole(PLAIN),
            ["objective.features=[a,bb]"],
            r"features=bb: no column .*one of a, b, target; did you mean 'b'",
        ),
        (whole(PLAIN), ["objective.target_column=targt"], r"target_column=targt: no column.*did you mean 'target'"),
        (whole(PLAIN, "a,b,c"), [], r"target_column=null: expected a column of d.csv, one of a, b, c; null is the one"),
        (whole(PLAIN), ["objective.features=[a,target]"], "features=.a,target.: expected at least one column"),
        (whole([*PLAIN, ",1,2", "NaN,1,2"]), [], "column a has 2 missing values of 62, expected none"),
        (whole([*PLAIN, "inf,1,2"]), [], "column a has 1 values that are missing or not finite"),
        (whole([*PLAIN, "Rome,1,2"]), [], r"column a holds text, such as .*, expected numbers; objective.features"),
        (whole([*PLAIN, "1,2"]), [], "dataset=d.csv: line 62 has 2 columns, expected 3"),
        (whole(PLAIN, "a,a,target"), [], "has two columns named a"),
        (whole([*PLAIN, "1,2,x"]), [], "column target holds text, expected numbers for a regression"),
        (whole(ONE_CLASS), [], "column target is 7 in all samples, expected targets that differ"),
        (whole(ONE_CLASS), ["objective=mlp", CLASSES], "is 7 in all samples, expected at least 2 classes"),
        (whole(PLAIN), ["objective=mlp", CLASSES], "expected whole numbers or text as the labels of classes"),
        (
            whole([f"{a},{b},{i}" for i, (a, b) in enumerate(numbers())]),
            ["objective=mlp", CLASSES],
            "differs in all 60",
        ),
        (whole(["1,2,3", "2,3,4"]), ["objective=mlp"], "objective.task=null: expected regression or classification"),
        (whole(PLAIN[:3]), [], "objective.held_out=0.1: expected a share of the 3 samples of d.csv"),
        (whole(PLAIN), [CLASSES], "task=classification: expected regression or null for objective linear_regression"),
        (whole(PLAIN), ["objective.dataset=diabetes", "objective.features=[a]"], "diabetes is no file, expected null"),
        (lambda folder: (folder / "d.npz").write_bytes(b"PK"), ["objective.dataset=d.npz"], "d.npz: cannot be read"),
        (
            lambda folder: np.savez(folder / "d.npz", x=np.zeros((4, 2)), target=np.zeros(5)),
            ["objective.dataset=d.npz"],
            "array x has 4 samples, expected 5 as target has",
        ),
        (
            lambda folder: np.savez(folder / "d.npz", x=np.zeros((4, 2)), target=np.zeros((4, 3))),
            ["objective.dataset=d.npz"],
            r"array target has the shape \(4, 3\), expected one target for each sample",
        ),
        (
            lambda folder: (folder / "given_more.py").write_text("def three(): return 1, 2, 3"),
            ["objective.dataset=given_more:three"],
            "returns tuple of 3, expected features and targets",
        ),
    ],
)
def test_data_that_do_not_fit_are_one_line(
    folder: Path, make: Callable[[Path], object], overrides: list[str], message: str
) -> None:
    make(folder)
    asked = ["objective=linear_regression", "objective.dataset=d.csv", "objective.held_out=0.1", "allow_code=true"]
    with pytest.raises(UserError, match=message) as failed:
        done(*asked, *overrides, "steps=1")
    assert len(failed.value.lines) == 1


def test_code_is_run_only_where_it_is_allowed() -> None:
    with pytest.raises(
        UserError, match=r"dataset=mine:data: runs code .* expected allow_code=true on the command line"
    ):
        done("objective=mlp", "objective.dataset=mine:data")


def test_a_file_larger_than_the_memory_is_not_read(folder: Path) -> None:
    with (folder / "d.csv").open("wb") as file:
        file.truncate(2**43)  # takes no space on the disk
    with pytest.raises(UserError, match=r"dataset=d.csv: needs about 24576.0 GiB of memory, expected at most the"):
        done("objective=linear_regression", "objective.dataset=d.csv")
