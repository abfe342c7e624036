"""The capstone, which takes longer than any other check: on one thread, beside the other tests."""

from __future__ import annotations

import os
import subprocess
import sys

from .conftest import ROOT


def test_the_reference_passes_the_capstone() -> None:
    words = ["-p", "no:cacheprovider", "--impl", "solutions", "-m", "capstone", "tests"]
    # two threads that wait for each other lose their time to whatever runs beside them
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-m", "pytest", *words], capture_output=True, text=True, cwd=ROOT, env=alone)
    assert run.returncode == 0 and "1 passed" in run.stdout, run.stdout
