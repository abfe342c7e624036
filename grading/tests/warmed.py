"""Commands in processes forked from one that has torch loaded, which takes longer than most of what is tested."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

SECONDS = 300.0

_context = get_context("forkserver")
_context.set_forkserver_preload(["pytest", "hypothesis", "xdist", "grading.plugin._session", "grading.cli._check"])


def run(module: str, folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What `python -m MODULE WORDS` does in `folder`, for `pytest` and `grading.cli`."""
    with tempfile.TemporaryDirectory() as place:
        said = Path(place, "out"), Path(place, "err")
        process = _context.Process(
            target=_carry_out, args=(module, folder, words, {**os.environ, **environment}, *said)
        )
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
        out, err = (path.read_text(encoding="utf-8", errors="replace") for path in said)
    return subprocess.CompletedProcess([module, *words], process.exitcode or 0, out, err)


def _carry_out(
    module: str, folder: Path, words: tuple[str, ...], environment: dict[str, str], out: Path, err: Path
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.argv = [module, *words]
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    status = importlib.import_module(module).main(list(words))
    sys.stdout.flush()
    sys.exit(int(status))
