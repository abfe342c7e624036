"""The pytest plugin: `pytest` judges the student's code, `pytest --impl PATH` any other, and both end in a summary."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("goodinit", "goodinit: whose code is judged")
    group.addoption(
        "--impl",
        metavar="PATH",
        default=None,
        help="judge this folder, .py file or notebook instead of exercises/ (`solutions` is the reference)",
    )
    group.addoption("--seed", type=int, default=None, help="draw the same numbers as an earlier run")
    group.addoption("--slow", action="store_true", help="also run the checks that train (the capstone)")
    group.addoption("--data", metavar="DIR", default=None, help="folder with the Fashion-MNIST IDX files")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Starts over where pytest has taken a path that is an option's for the place of the tests.

    It looks for its configuration before it knows the options, and so among the folders of a submission.
    """
    here = config.invocation_params.dir
    root = next((folder for folder in (here, *here.parents) if (folder / "course.toml").is_file()), None)
    options = config.option.impl or config.option.data
    if root is None or not options or (config.rootpath / "course.toml").is_file():
        return None
    return int(pytest.main(["-c", str(root / "pyproject.toml"), *config.invocation_params.args]))


def pytest_configure(config: pytest.Config) -> None:
    for marker in (
        "weight(number): the share of its exercise's points that a check carries; 1 unless said",
        "slow: takes more than a few seconds; runs with --slow, with -m, or when named",
        "capstone: trains on Fashion-MNIST; slow",
        "gpu: needs a GPU, and runs on the CPU where there is none",
    ):
        config.addinivalue_line("markers", marker)
    if (config.rootpath / "course.toml").is_file():
        # other projects in the same environment are to notice nothing of this one
        from ._session import begin

        begin(config)
