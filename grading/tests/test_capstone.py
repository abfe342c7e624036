"""The capstone, which takes longer than any other check: on one thread, beside the other tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT, write_garments


def test_the_reference_passes_the_capstone(tmp_path: Path) -> None:
    passes_the_capstone("--data", str(write_garments(tmp_path, 12_000, 2_000)))


@pytest.mark.slow
def test_the_reference_passes_the_capstone_on_all_that_there_is() -> None:
    passes_the_capstone()


def passes_the_capstone(*words: str) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--impl", "solutions", "-m", "capstone"]
    # two threads that wait for each other lose their time to whatever runs beside them
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run([*command, *words, "tests"], capture_output=True, text=True, cwd=ROOT, env=alone)
    assert run.returncode == 0 and "1 passed" in run.stdout, run.stdout
