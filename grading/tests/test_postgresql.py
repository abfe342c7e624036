"""An nbgrader course whose gradebook is on a PostgreSQL server, which these tests start and stop."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nbgrader", reason="nbgrader is not installed: pip install 'goodinit[instructor]'")
pytest.importorskip("psycopg2", reason="psycopg2 is not installed: pip install 'goodinit[postgresql]'")

from grading.cli import main
from grading.sandbox import Sandbox

from .handing_in import MEAN, UNIT, VARIANCE, Class
from .test_parallel_autograde import WRONG, stopping

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Object of type <Submitted")]

ANSWERS = {
    "anna": {"mean": MEAN, "variance": VARIANCE},
    "berta": {"mean": MEAN, "variance": WRONG},
    "chris": {"mean": MEAN},
    "dora": {},
}


def programs() -> Path | None:
    """Where PostgreSQL's programs are: on the PATH, or where Debian has them."""
    found = shutil.which("pg_ctl")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    wanted = ("initdb", "postgres", "pg_ctl", "createdb")
    return next((folder for folder in folders if all((folder / name).exists() for name in wanted)), None)


class Server:
    """A PostgreSQL server of its own, on a socket in a folder of its own."""

    def __init__(self, programs: Path) -> None:
        self.programs = programs
        # a path for a socket has to be short
        self.folder = Path(tempfile.mkdtemp(prefix="goodinit-pg-"))
        # the server refuses to be run by root
        self.user: dict[str, Any] = {}
        if os.geteuid() == 0:
            self.user = {"user": "nobody", "group": self.folder.stat().st_gid, "extra_groups": []}
            shutil.chown(self.folder, "nobody")
        self.run("initdb", "--auth=trust", "--username=course", "--encoding=UTF8", "--no-sync")
        self.start()
        self.run("createdb", "--host", str(self.folder), "--username=course", "gradebook", pgdata=False)
        self.url = f"postgresql://course@/gradebook?host={self.folder}"

    def run(self, program: str, *words: str, pgdata: bool = True) -> None:
        place = ["--pgdata", str(self.folder / "data")] if pgdata else []
        done = subprocess.run(
            [str(self.programs / program), *place, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            env={**os.environ, "LC_ALL": "C"},
            check=False,
            **self.user,
        )
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off"
        self.run("pg_ctl", "-w", "-t", "120", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-w", "-t", "120", "-m", "immediate", "stop")

    def close(self) -> None:
        if (self.folder / "data" / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.folder)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = programs()
    if found is None:
        pytest.skip("PostgreSQL's server is not installed: initdb, postgres, pg_ctl and createdb are expected")
    one = Server(found)
    yield one
    one.close()


@pytest.fixture(scope="module")
def handed_in(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Class:
    one = Class(tmp_path_factory.mktemp("postgresql"), "check_seconds = 5\nimport_seconds = 5\nnotebook_seconds = 20")
    for student, answers in ANSWERS.items():
        one.hand_in(student, answers=answers)
    (one.root / ".goodinit" / UNIT).mkdir(parents=True)
    (one.root / ".goodinit" / UNIT / "seed").write_text("5\n")
    return one


def goodinit(folder: Path, *words: str) -> int:
    with contextlib.chdir(folder):
        return main(list(words))


def exported(folder: Path) -> list[dict[str, str]]:
    assert (
        goodinit(folder.parent / "kit", "grades", "--nbgrader", str(folder), "--format", "csv", "--out", "g.csv") == 0
    )
    with open(folder.parent / "kit" / "g.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def by_sqlite(handed_in: Class) -> list[dict[str, str]]:
    """What is exported from the gradebook that nbgrader itself would make."""
    folder = handed_in.folder / "sqlite"
    shutil.copytree(handed_in.root, folder)
    assert goodinit(folder, "autograde", UNIT, "--nbgrader", ".", "--jobs", "2") == 0
    return exported(folder)


@pytest.fixture(scope="module")
def on_server(server: Server, handed_in: Class) -> Path:
    """The course with its gradebook on the server, built by its own command; nothing is graded yet."""
    folder = handed_in.folder / "postgresql"
    shutil.copytree(handed_in.root, folder)
    (folder / "gradebook.db").unlink()
    assert goodinit(folder.parent / "kit", "build", "--nbgrader", str(folder), "--db", server.url) == 0
    generated = nbgrader(folder, "generate_assignment", UNIT, "--force")
    said, _ = generated.communicate(timeout=250)
    assert generated.returncode == 0, said
    assert not (folder / "gradebook.db").exists()
    return folder


def nbgrader(folder: Path, *words: str) -> subprocess.Popen[str]:
    commands = Path(sys.executable).parent
    return subprocess.Popen(
        [str(commands / "nbgrader"), *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PATH": f"{commands}{os.pathsep}{os.environ.get('PATH', '')}"},
    )


def test_a_server_that_goes_away_loses_nothing(
    server: Server, on_server: Path, by_sqlite: list[dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Graded side by side, the server lost in the middle of writing and found again, and exported."""
    folder = on_server
    stop = [str(server.programs / "pg_ctl"), "--pgdata", str(server.folder / "data"), "-m", "immediate", "stop"]
    lost = "import signal, subprocess\nos_kill = lambda *words: subprocess.run({!r}, cwd='/', check=True, **{!r})\n"
    place = ("grading.nbgrader._autograde.SaveGrades", "_add_score", "", 12)
    statements = lost.format(stop, server.user) + stopping(*place).replace("os.kill(", "os_kill(")
    run = subprocess.run(
        [sys.executable, "-c", f"import sys\nfrom grading.cli import main\n{statements}\nsys.exit(main(sys.argv[1:]))",
         "autograde", UNIT, "--nbgrader", str(folder), "--jobs", "2"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert run.returncode == 2, run.stderr
    said = run.stderr.splitlines()[-1]
    assert said.startswith("goodinit: the gradebook cannot be written to: ") and said.endswith("what is judged is kept")
    assert "Traceback" not in run.stderr

    assert goodinit(folder, "autograde", UNIT, "--nbgrader", ".") == 2
    errors = capsys.readouterr().err
    assert "cannot be reached" in errors and errors.count("\n") == 1
    server.start()
    kept = {path: path.stat().st_mtime_ns for path in (folder / ".goodinit" / UNIT).glob("*.json")}
    assert kept
    assert goodinit(folder, "autograde", UNIT, "--nbgrader", ".", "--jobs", "2") == 0
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert exported(folder) == by_sqlite
    scores = {row["student_id"]: float(row["raw_score"]) for row in by_sqlite if row["assignment"] == UNIT}
    assert set(scores) == set(ANSWERS)
    assert scores["anna"] > scores["berta"] > scores["chris"] > scores["dora"] == 0


def test_several_commands_of_nbgrader_write_at_once(on_server: Path, by_sqlite: list[dict[str, str]]) -> None:
    """Each finds what the judges have found, and takes its turn."""
    assert goodinit(on_server, "autograde", UNIT, "--nbgrader", ".", "--jobs", "2") == 0
    shutil.rmtree(on_server / "autograded")
    runs = [nbgrader(on_server, "autograde", UNIT, "--student", student) for student in ANSWERS]
    for run in runs:
        said, _ = run.communicate(timeout=250)
        assert run.returncode == 0, said
    assert exported(on_server) == by_sqlite
