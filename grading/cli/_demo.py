"""`goodinit demo`: a stub, a wrong answer, the reference and the capstone, each by a student's own command."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from rich.console import Console

from grading.course import Course
from grading.data import SYNTHETIC, DataError, find_source

# BatchNorm as most people write it first: the buffers take the variance that has just normalised the batch
WRONG = """
class BatchNorm(nn.Module):
    def __init__(self, n_filters, mom=0.1, eps=1e-5):
        super().__init__()
        self.mom, self.eps = mom, eps
        self.mults = nn.Parameter(torch.ones(n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(n_filters, 1, 1))
        self.register_buffer("vars", torch.ones(1, n_filters, 1, 1))
        self.register_buffer("means", torch.zeros(1, n_filters, 1, 1))

    def forward(self, x):
        channels = self.mults.shape[0]
        if x.dim() != 4 or x.shape[1] != channels:
            raise ValueError(f"x must be (n, {channels}, h, w)")
        if self.training:
            if x.numel() == x.shape[1]:
                raise ValueError("x has one value per channel")
            m = x.mean((0, 2, 3), keepdim=True)
            v = x.var((0, 2, 3), keepdim=True, correction=0)
            with torch.no_grad():
                self.means.lerp_(m, self.mom)
                self.vars.lerp_(v, self.mom)
        else:
            m, v = self.means, self.vars
        return (x - m) / (v + self.eps).sqrt() * self.mults + self.adds
"""


def demo(course: Course, args: argparse.Namespace) -> int:
    """Runs the four commands; returns 0 when each ended as it should."""
    from grading.cli import main

    console = Console()

    def step(title: str, *command: str) -> int:
        console.rule(title, align="left", style="bold")
        console.print(f"$ goodinit {' '.join(command)}", style="bold", markup=False, highlight=False)
        return main(list(command))

    with tempfile.TemporaryDirectory() as folder:
        wrong = Path(folder) / "my_batch_norm.py"
        wrong.write_text(WRONG.lstrip(), encoding="utf-8")
        ends = [
            step("A stub that nobody has written yet", "check", "u7::batch_norm") == 1,
            step("A wrong answer, explained", "check", "u7::batch_norm", "--impl", str(wrong)) == 1,
            step("The reference", "check", "--impl", "solutions", "--fast") == 0,
        ]
    train = ["train", "--impl", "solutions"]
    try:
        console.print(f"Data for the capstone: {find_source(None).label}", highlight=False)
    except DataError as error:
        console.print(
            f"{error}\nSo the capstone trains on drawn garments, which are not Fashion-MNIST.", highlight=False
        )
        train += ["--data", SYNTHETIC]
    ends.append(step("The capstone: the reference's own pieces on images of clothes", *train) == 0)
    console.rule("Yours next", align="left", style="bold")
    console.print("Open exercises/u1_statistics.py, write `mean`, and run: pytest -k mean", highlight=False)
    return 0 if all(ends) else 1
