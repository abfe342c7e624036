"""course.toml: a wrong file gives one sentence with its line; a target finds its exercises."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from grading.course import Course, CourseError, find_root, load

from .conftest import ROOT

GOOD = (ROOT / "course.toml").read_text(encoding="utf-8")


def broken(tmp_path: Path, old: str, new: str, count: int = 1) -> CourseError:
    """The error that course.toml gives after one replacement."""
    assert old in GOOD
    (tmp_path / "course.toml").write_text(GOOD.replace(old, new, count), encoding="utf-8")
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    with pytest.raises(CourseError) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)
    return error.value


def line_of(text: str, skip: int = 0) -> int:
    lines = [number for number, line in enumerate(GOOD.splitlines(), start=1) if line.startswith(text)]
    return lines[skip]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            'points = 1\nrequires = ["mean"]',
            'pionts = 1\nrequires = ["mean"]',
            "unknown key 'pionts' (did you mean 'points'?)",
        ),
        ('requires = ["mean"]', 'requires = ["maen"]', "unknown prerequisite 'maen' (did you mean 'mean'?)"),
        ('id = "variance"', 'id = "mean"', "the id 'mean' is used twice, first by exercise 'mean' in line"),
        ("points = 1\n", 'points = "1"\n', "'points' takes a whole number, not '1'"),
        ("points = 1\n", "points = true\n", "'points' takes a whole number, not True"),
        ("points = 1\n", "points = 0\n", "points must be 1 or more, not 0"),
        ("points = 1\n", "points = 2\n", "the exercises' points add up to 101, and should to 100"),
        ("points = 1\n", "", "the key 'points' is missing"),
        ('names = ["variance"]', "names = []", "'names' takes one function or class"),
        ('names = ["variance"]', 'names = ["variance", "mean"]', "'names' takes one function or class"),
        ('names = ["variance"]', "names = [1]", "'names' takes a list of strings"),
        (
            'names = ["variance"]',
            'names = [""]',
            "'names' takes names that u1_statistics.py defines, such as 'mean', or",
        ),
        ('names = ["variance"]', 'names = ["SGD."]', "'SGD.step' for a method, not 'SGD.'"),
        (
            'id = "variance"',
            'id = ""',
            "exercise '' of u1_statistics: 'id' takes a Python name of at most 58 ASCII char",
        ),
        ('id = "mean"', 'id = "a/b"', "exercise 'a/b' of u1_statistics: 'id' takes a Python name of at most 58 ASCII"),
        ('id = "mean"', 'id = "größe"', "such as 'batch_norm', not 'größe'"),
        ('id = "mean"', 'id = "lambda"', "such as 'batch_norm', not 'lambda'"),
        ('id = "mean"', f'id = "{59 * "m"}"', f"such as 'batch_norm', not '{59 * 'm'}'"),
        ('id = "u1_statistics"', 'id = "u1/x"', "unit 'u1/x': 'id' takes a Python name of at most 58 ASCII characters"),
        ('id = "u3_activations"', 'id = "u3_nothing"', "has no suite: tests/test_u3_nothing.py is missing"),
        ('names = ["mean"]', 'names = ["mean"]\nrequires = ["mean"]', "its own prerequisite"),
        ('names = ["mean"]', 'names = ["mean"]\nrequires = ["variance"]', "its own prerequisite"),
        ('names = ["mean"]', 'names = ["mean"]\nrequires = ["relu"]', "its prerequisite 'relu' comes after it"),
        ("[limits]\n", "[limits]\nimport_hours = 3\n", "unknown key 'import_hours'"),
        ("title = ", "title = = ", "is not valid TOML"),
        ("import_seconds = 10", f"import_seconds = {'9' * 5001}", "it has a number with thousands of digits"),
        (
            "import_seconds = 10",
            f"import_seconds = 0x{'f' * 5001}",
            "'import_seconds' takes a number of at most 64 bits",
        ),
        ("[limits]\n", f"[limits]\nimport_hours = {'[' * 900}{']' * 900}\n", "its brackets are nested too deeply"),
        ('id = "u1_statistics"', 'id = "u1_statistics"\ndue = 0001-01-01T00:00:00+14:00', "a year from 1970 to 9998"),
        ('id = "u1_statistics"', 'id = "u1_statistics"\ndue = 9999-12-31T23:59:00-12:00', "a year from 1970 to 9998"),
    ],
)
def test_a_wrong_file_gives_one_sentence(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    assert sentence in str(broken(tmp_path, old, new))


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("import_seconds = 0", "'import_seconds' takes a number above 0 and below 1000000000, not 0"),
        ("import_seconds = -3", "'import_seconds' takes a number above 0 and below 1000000000, not -3"),
        ("check_seconds = nan", "'check_seconds' takes a number above 0 and below 1000000000, not nan"),
        ("check_seconds = inf", "'check_seconds' takes a number above 0 and below 1000000000, not inf"),
        ("cpu_seconds = 0", "'cpu_seconds' takes a whole number above 0 and below 1000000000, not 0"),
        ("cpu_seconds = 1.5", "'cpu_seconds' takes a whole number, not 1.5"),
        ("check_seconds = 1e-9", "'check_seconds' takes a number of seconds from 0.1, not 1e-09"),
        ("memory_mb = 1000000000", "'memory_mb' takes a whole number above 0 and below 1000000000, not 1000000000"),
    ],
)
def test_a_limit_that_is_none_is_named_with_its_line(tmp_path: Path, entry: str, sentence: str) -> None:
    limits = re.search(r"(?m)^\[limits\]\n(?:\w+ = .*\n)*", GOOD)
    assert limits is not None
    line = line_of("[limits]") + 1
    assert str(broken(tmp_path, limits[0], f"[limits]\n{entry}\n")) == f"course.toml, line {line}: [limits]: {sentence}"


def test_the_sentence_names_the_line(tmp_path: Path) -> None:
    error = broken(tmp_path, 'id = "correlation"', 'id = "correlation"\ncolour = "red"')
    line = line_of('id = "correlation"') + 1
    assert f"line {line}:" in str(error)
    assert "exercise 'correlation' of u1_statistics" in str(error)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("unit = [1, 2]", "course.toml, line 2: the course: 'unit' takes tables, each below [[unit]], not 1"),
        ("unit = [[{}]]", "course.toml, line 2: the course: 'unit' takes tables, each below [[unit]], not [{}]"),
        (
            '[[unit]]\nid = "u1"\ntitle = ""\nsummary = ""\nexercise = ["mean"]',
            "course.toml, line 6: unit 'u1': 'exercise' takes tables, each below [[unit.exercise]], not 'mean'",
        ),
    ],
)
def test_a_list_of_something_else_than_tables(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "course.toml").write_text(f'title = "x"\n{text}\n', encoding="utf-8")
    with pytest.raises(CourseError) as error:
        load(tmp_path)
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("old", "new", "exercise", "sentence"),
    [
        ('names = ["mean"]', 'names = ["maen"]', "mean", "has no 'maen' (did you mean 'mean'?); 'names' takes what it"),
        (
            '"SGD.opt_step"',
            '"SGD.opt_stepp"',
            "sgd",
            "has no 'opt_stepp' (did you mean 'opt_step'?); 'names' takes what",
        ),
    ],
)
def test_names_that_the_solution_has_not(tmp_path: Path, old: str, new: str, exercise: str, sentence: str) -> None:
    (tmp_path / "solutions").symlink_to(ROOT / "solutions")
    said = str(broken(tmp_path, old, new))
    assert sentence in said and f"exercise {exercise!r}" in said
    line = next(number for number, text in enumerate(GOOD.splitlines(), start=1) if old in text)
    assert said.startswith(f"course.toml, line {line}: ")


def test_a_byte_order_mark_is_read_over(tmp_path: Path, course: Course) -> None:
    (tmp_path / "course.toml").write_text(GOOD, encoding="utf-8-sig")
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    assert load(tmp_path).units == course.units


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_what_is_no_file_is_not_passed_over(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "course.toml"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path)
    with pytest.raises(CourseError) as error:
        load(find_root(tmp_path))
    assert str(error.value) == f"{path} is no file; move it away, or put the course's own course.toml there"


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(CourseError, match=r"course.toml cannot be read"):
        load(tmp_path)


def test_hints_are_three(tmp_path: Path) -> None:
    text = re.sub(r"hints = \[\n    .*\n", "hints = [\n", GOOD, count=1)
    (tmp_path / "course.toml").write_text(text, encoding="utf-8")
    with pytest.raises(CourseError, match="has 2 hints, and takes 3"):
        load(tmp_path)


def test_the_catalogue_is_complete(course: Course) -> None:
    assert len(course.units) == 9
    assert len(course.exercises) == 51
    assert sum(unit.points for unit in course.units) == 100
    assert all(hint != "TODO" for exercise in course.exercises.values() for hint in exercise.hints)


@pytest.mark.parametrize("target", ["u7", "u7_normalization", "u7_normalization.py"])
def test_a_unit_by_any_of_its_names(course: Course, target: str) -> None:
    assert [exercise.id for exercise in course.resolve(target)][:3] == ["lerp", "layer_norm", "batch_norm"]


@pytest.mark.parametrize("target", ["batch_norm", "u7::batch_norm", "u7_normalization::batch_norm"])
def test_an_exercise_by_any_of_its_names(course: Course, target: str) -> None:
    assert [exercise.id for exercise in course.resolve(target)] == ["batch_norm"]


@pytest.mark.parametrize(
    ("target", "near"),
    [("batchnorm", "batch_norm"), ("u7_normalisation", "u7_normalization"), ("varience", "variance")],
)
def test_a_wrong_word_gets_the_nearest_right_one(course: Course, target: str, near: str) -> None:
    with pytest.raises(CourseError, match=f"did you mean '{near}'"):
        course.resolve(target)


def test_an_exercise_of_another_unit_is_not_found(course: Course) -> None:
    with pytest.raises(CourseError, match="did you mean 'u7_normalization::batch_norm'"):
        course.resolve("u6_normalization::batch_norm")


def test_prerequisites_are_followed_to_the_end(course: Course) -> None:
    assert course.prerequisites("correlation") == ["mean", "variance", "standard_deviation", "covariance"]
