"""`goodinit train` as its users meet it, on a few drawn images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from grading.cli import main

from .conftest import write_garments

ROOT = Path(__file__).parents[2]
PICTURES = ["activations", "colourful_dimension", "dead_units", "loss", "lr_finder", "predictions"]

Train = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn garments as IDX files: 600 to learn from, 200 to be judged on."""
    return write_garments(tmp_path_factory.mktemp("garments"), 600, 200)


@pytest.fixture
def train(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Train:
    """Runs the command in the course's folder and returns its exit status, output and errors."""
    monkeypatch.chdir(ROOT)

    def run(
        *words: str, impl: str = "solutions", out: str = "out", data_from: str | Path = data
    ) -> tuple[int, str, str]:
        defaults = ["--impl", impl, "--data", str(data_from), "--out", str(tmp_path / out), "--device", "cpu"]
        try:
            status = main(["train", *defaults, *words])
        except SystemExit as end:
            status = int(end.code or 0)
        found = capsys.readouterr()
        return status, found.out, found.err

    return run


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A student's folder: the reference, to be changed."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for path in (ROOT / "solutions").glob("u*.py"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures cost nothing where nobody looks at them."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, path, **options: Path(path).touch())


def change(folder: Path, unit: str, old: str, new: str) -> None:
    path = folder / f"{unit}.py"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_run_leaves_numbers_and_pictures(train: Train, tmp_path: Path):
    status, out, err = train("--epochs", "2", "--batch-size", "32", "--seed", "3")
    assert status == 0, err
    assert "Traceback" not in err
    lines = out.splitlines()
    assert lines[0].startswith("600 training and 200 test images of Fashion-MNIST (")
    assert "--seed 3" in lines[1]
    assert len([line for line in lines if "/2 " in line]) == 2
    record = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert f"valid accuracy {record['accuracy']:.4f} on 600 training" in out
    assert record["accuracy"] > 0.5
    assert [entry["phase"] for entry in record["history"]] == ["train", "valid"] * 2
    assert record["history"][-1]["accuracy"] == pytest.approx(record["accuracy"])
    assert record["seconds"]["loading"] < record["seconds"]["training"]
    for name in PICTURES:
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_seed_replays_a_run(train: Train, tmp_path: Path, undrawn: None):
    histories = []
    for out in ("once", "again"):
        assert train("--epochs", "1", "--seed", "5", out=out)[0] == 0
        record = json.loads((tmp_path / out / "metrics.json").read_text())
        histories.append([(entry["loss"], entry["accuracy"]) for entry in record["history"]])
    assert histories[0] == histories[1]


def test_a_stub_is_named_with_its_place_before_anything_is_read(train: Train, mine: Path):
    change(mine, "u8_optimizers", "            p.grad = None\n", '            raise NotImplementedError("sgd: ...")\n')
    status, out, err = train(impl=str(mine))
    assert status == 2
    assert err.startswith("goodinit: sgd is not written yet (")
    assert "u8_optimizers.py:" in err
    assert "goodinit hint sgd" in err
    assert err.count("\n") == 1
    assert out == ""


def test_the_students_own_pieces_only(train: Train, mine: Path):
    (mine / "u7_normalization.py").unlink()
    status, _, err = train(impl=str(mine))
    assert status == 2
    assert "lerp is not written yet" in err
    assert "nor 1 more of the capstone's pieces" in err


def test_a_file_of_another_unit_is_no_implementation(train: Train, mine: Path, tmp_path: Path):
    status, out, err = train(impl=str(mine / "u7_normalization.py"))
    assert status == 2
    assert err.endswith("is one file, without `train`; `goodinit train` takes a folder with the nine units\n")
    assert err.count("\n") == 1
    assert out == ""
    assert not (tmp_path / "out").exists()


def test_what_students_code_raises_is_one_sentence_with_its_line(train: Train, mine: Path):
    change(mine, "u9_fashion", "    learn.fit(epochs)\n", "    learn.fit(epochs / 0)\n")
    status, _, err = train(impl=str(mine))
    assert status == 2
    assert "u9_fashion.py:" in err
    assert "learn.fit(epochs / 0): ZeroDivisionError" in err
    assert err.count("\n") == 1


def test_a_missing_return(train: Train, mine: Path, undrawn: None):
    change(mine, "u9_fashion", "    learn.fit(epochs)\n    return learn\n", "    learn.fit(epochs)\n")
    status, _, err = train("--epochs", "1", impl=str(mine))
    assert status == 2
    assert "is a `return` missing?" in err


def test_a_picture_that_cannot_be_drawn_spoils_nothing(train: Train, mine: Path, tmp_path: Path, undrawn: None):
    change(mine, "u5_hooks", "        return figure\n", '        raise NotImplementedError("activation_stats: ...")\n')
    status, out, _ = train("--epochs", "1", impl=str(mine))
    assert status == 0
    assert "no activations.png: activation_stats is not written yet" in out
    assert (tmp_path / "out" / "lr_finder.png").exists()
    assert not (tmp_path / "out" / "activations.png").exists()


def test_train_may_have_the_bare_signature(train: Train, mine: Path, undrawn: None):
    change(
        mine,
        "u9_fashion",
        "    wd: float = 0.05,\n    leak: float = 0.0,\n    cbs: Iterable[Callback] = (),\n) -> Learner",
        ") -> Learner",
    )
    change(mine, "u9_fashion", "    lr: float,\n    *,\n", "    lr: float,\n")
    change(
        mine,
        "u9_fashion",
        "    ### BEGIN SOLUTION\n    model.apply",
        "    wd, leak, cbs = 0.01, 0.0, ()\n    model.apply",
    )
    status, out, err = train("--epochs", "1", impl=str(mine))
    assert status == 0, err
    assert "valid accuracy 0." in out


def test_a_training_that_diverges_ends_normally(train: Train, tmp_path: Path, undrawn: None):
    status, out, err = train("--epochs", "1", "--lr", "1e30")
    assert status == 0, err
    assert "valid accuracy" in out
    json.loads((tmp_path / "out" / "metrics.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--epochs", "0"), "whole number from 1"),
        (("--batch-size", "many"), "whole number from 1"),
        (("--lr", "-1"), "number from 0"),
        (("--lr", "nan"), "number from 0"),
        (("--device", "tpu"), "tpu"),
    ],
)
def test_wrong_arguments(words: tuple[str, ...], said: str, train: Train):
    status, _, err = train(*words)
    assert status == 2
    assert said in err
    assert "Traceback" not in err


def test_a_device_that_is_not_there(train: Train):
    import torch

    if torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    status, _, err = train("--device", "mps")
    assert status == 2
    assert err.startswith("goodinit: there is no mps device on this machine")


def test_data_that_is_not_there(train: Train, tmp_path: Path):
    status, _, err = train(data_from=tmp_path / "nowhere")
    assert status == 2
    assert "nowhere does not exist" in err
    assert err.count("\n") == 1


def test_data_of_no_name_is_data_not_given(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FASHION_MNIST_DIR", str(tmp_path / "elsewhere"))
    status, _, err = train(data_from="")
    assert status == 2
    assert "elsewhere does not exist" in err


def test_a_folder_that_cannot_be_made(train: Train, tmp_path: Path):
    (tmp_path / "taken").write_text("")
    status, _, err = train(out="taken/run")
    assert status == 2
    assert "--out" in err
    assert err.count("\n") == 1


def test_the_table_has_every_row_of_the_lesson(
    train: Train, tmp_path: Path, mine: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "60")
    change(
        mine,
        "u7_normalization",
        "        return (x - mean) / (var + self.eps).sqrt() * self.mult + self.add",
        '        raise NotImplementedError("layer_norm: ...")',
    )
    status, out, err = train("--table", "--seed", "1", impl=str(mine))
    assert status == 0, err
    assert max(len(line) for line in out.splitlines() if "│" in line) <= 60
    rows = json.loads((tmp_path / "out" / "table.json").read_text())["rows"]
    assert len(rows) == 13
    for row in rows:
        if row["row"] == "LayerNorm":
            assert row["problem"] == "not written yet: layer_norm"
        else:
            assert all(0 <= value <= 1 for value in row["accuracies"])
            assert len(row["accuracies"]) == (2 if "then" in row["row"] else 1)
    assert "0.906" in out
