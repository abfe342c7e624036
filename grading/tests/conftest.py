"""What the machinery's own tests share: the course, and ways to judge a text as if a student had handed it in."""

from __future__ import annotations

import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

# before the first operation: tests that fork would hang in a child of a process whose thread pool has run
torch.set_num_threads(1)

# a shell that starts the tests in the background has interrupts ignored, by them and by all that they start
signal.signal(signal.SIGINT, signal.default_int_handler)

from grading.bugs import UNHURRIED_SECONDS  # noqa: E402
from grading.course import Course, load  # noqa: E402
from grading.judge import Judge  # noqa: E402
from grading.sandbox import Sandbox, SandboxError  # noqa: E402
from grading.subject import read_sources  # noqa: E402
from grading.verdict import Verdict  # noqa: E402

ROOT = Path(__file__).parents[2]
# what takes longest is begun first, so that workers beside each other end at about the same time
LONGEST = ("test_hostile", "test_grade", "test_wall", "test_subject", "test_bugs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def write_garments(folder: Path, n_train: int, n_test: int) -> Path:
    """Drawn garments as IDX files in `folder`, which it returns."""
    from grading.data._idx import FILES
    from grading.data._sources import Drawn

    for split, (images, labels) in Drawn(n_train, n_test).arrays().items():
        image_file, label_file = FILES[split]
        (folder / image_file).write_bytes(struct.pack(">4I", 0x803, *images.shape) + images.tobytes())
        (folder / label_file).write_bytes(struct.pack(">2I", 0x801, len(labels)) + labels.astype("u1").tobytes())
    return folder


class NbgraderCourse:
    """An nbgrader course of ours in a folder, and nbgrader's own API to it."""

    def __init__(self, course: Course, root: Path) -> None:
        from nbgrader.apps.api import NbGraderAPI
        from nbgrader.coursedir import CourseDirectory

        from grading.nbgrader import build_course
        from grading.nbgrader._config import read_config

        self.root = root
        self.built = build_course(course, root)
        config = read_config(root)
        self.api = NbGraderAPI(CourseDirectory(config=config), config=config)

    def released(self, unit: str) -> Path:
        """The notebook that students get, generated when it is first asked for."""
        path = self.root / "release" / unit / f"{unit}.ipynb"
        if not path.is_file():
            done = self.api.generate_assignment(unit)
            assert done["success"], done["log"]
        return path


@pytest.fixture(scope="session")
def course() -> Course:
    return load(ROOT)


@pytest.fixture(scope="session")
def nbgrader_course(course: Course, tmp_path_factory: pytest.TempPathFactory) -> NbgraderCourse:
    """One course for tests that leave it as it is."""
    return NbgraderCourse(course, tmp_path_factory.mktemp("nbgrader") / "course")


@pytest.fixture(scope="session")
def sandbox(course: Course) -> Iterator[Sandbox]:
    """The wall of this machine; tests that need it are skipped where there is none."""
    with Sandbox(course) as found:
        try:
            found.fork().kill()
        except SandboxError as error:
            pytest.skip(str(error))
        yield found


@pytest.fixture
def judge_text(course: Course, tmp_path: Path) -> Iterator[Callable[..., dict[str, Verdict]]]:
    """Judges a file with the text given, and returns the verdicts of the exercises asked for by check."""
    judges: list[Judge] = []

    def judge(text: str, *exercises: str, name: str = "handed_in.py", seed: int = 1) -> dict[str, Verdict]:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        reference = read_sources(course, ROOT / "solutions")
        one = Judge(course, read_sources(course, path), reference, seed, diagnosis_seconds=UNHURRIED_SECONDS)
        judges.append(one)
        chosen = [course.exercises[exercise] for exercise in exercises]
        return {verdict.check: verdict for verdict in one.judge(chosen, slow=False)}

    yield judge
    for one in judges:
        one.close()
