"""What is read of a notebook that was handed in: in time of its length, and for one student alone if it is damaged."""

from __future__ import annotations

import json
from typing import Any

import pytest

from grading.classroom import readable
from grading.nbgrader._mend import Given, MendError, cells_of, mend
from grading.verdict import clean

GIVEN = Given(
    "check-mean", "code", 'check("mean")', "", locked=True, grade=True, solution=False, task=False, points=1.0
)


def notebook(*cells: dict[str, Any]) -> bytes:
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def code(source: str, **more: Any) -> dict[str, Any]:
    return {"cell_type": "code", "source": source, "metadata": {}, "outputs": [], **more}


def test_of_each_line_is_shown_what_was_drawn_last() -> None:
    for text, shown in (
        ("10%\r20%\r\nx", "20%\r\nx"),
        ("a\rb\nc\r", "b\n"),
        ("one\r\ntwo", "one\r\ntwo"),
        ("/opt/x/site-packages/torch/nn.py /usr/lib/python3.11/ast.py", "torch/nn.py ast.py"),
        ("/site-packages/a /home/me/mine.py", "/site-packages/a /home/me/mine.py"),
        ("see:/a/site-packages/b/python3.12/c", "see:c"),
    ):
        assert readable({"output_type": "stream", "name": "stdout", "text": text})["text"] == clean(shown)


@pytest.mark.parametrize("text", ["/" * 1_000_000, "0, " * 300_000, "a\r" * 500_000, "/python3.1/" * 90_000])
def test_long_texts_take_no_longer_than_their_length(text: str) -> None:
    """In the square of it they would take hours."""
    assert len(readable({"output_type": "stream", "name": "stdout", "text": text})["text"]) <= len(text)


@pytest.mark.parametrize("traceback", [5, 1.5, True, None, "text", {"a": 1}, [1, None], [["x"]]])
def test_an_error_of_any_form_is_read(traceback: Any) -> None:
    output = {"output_type": "error", "ename": 3, "evalue": ["a", "b"], "traceback": traceback}
    (cell,) = cells_of(notebook(code("1", outputs=[output])), [])
    assert cell["outputs"][0]["evalue"] == "ab"
    assert all(isinstance(line, str) for line in cell["outputs"][0]["traceback"])


def test_what_nobody_has_foreseen_is_damage_of_one_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(cell: object) -> None:
        raise TypeError("not foreseen")

    monkeypatch.setattr("grading.nbgrader._mend._whole", fail)
    with pytest.raises(MendError, match="is damaged \\(TypeError: not foreseen"):
        cells_of(notebook(code("1")), [])


def test_of_long_outputs_the_beginning_is_kept() -> None:
    output = {"output_type": "stream", "name": "stdout", "text": "x" * 3_000_000}
    (cell,) = cells_of(notebook(code("1", outputs=[output])), [])
    text = cell["outputs"][0]["text"]
    assert len(text) < 200_000
    assert text.endswith("(the rest is left out)\n")


def test_of_many_copies_the_last_with_an_answer_counts() -> None:
    answer = Given(
        "mean", "code", "def mean(t): ...", "", locked=False, grade=False, solution=True, task=False, points=0
    )
    metadata = {"nbgrader": {"grade_id": "mean"}}
    copies = [code("def mean(t): ...", metadata=metadata)] * 30_000
    mine = code("def mean(t): return t.mean()", metadata=metadata)
    found = mend(notebook(*copies, mine, *copies), [answer])
    assert [cell.source for cell in found.notebook.cells] == ["def mean(t): return t.mean()"]
    assert found.notes == ["the cell mean was there 60001 times: the last one with an answer counts"]


def test_a_given_cell_that_is_gone_is_put_back() -> None:
    found = mend(notebook(code("x = 1")), [GIVEN])
    assert [cell.source for cell in found.notebook.cells] == ['check("mean")', "x = 1"]
