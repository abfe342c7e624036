"""Importing torch: what is left out of it changes no number."""

from __future__ import annotations

import subprocess
import sys

from .conftest import ROOT

SCRIPT = """
import sys
import torch
from grading.startup import importing

torch.set_num_threads(1)

def numbers(kind):
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(3, 4))
    optimizer = kind([weight], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = (weight * weight).sum()
        loss.backward()
        optimizer.step(lambda: loss)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
    optimizer.load_state_dict(optimizer.state_dict())
    assert torch.is_grad_enabled()
    return weight.tolist()

optim = torch.optim
kinds = [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad, optim.NAdam, optim.LBFGS, optim.Muon]
before = [(kind, dict(vars(kind))) for kind in (optim.Optimizer, *kinds)]
with importing():
    pass
spared = [numbers(kind) for kind in kinds]
torch.use_deterministic_algorithms(True, warn_only=True)
assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
torch.use_deterministic_algorithms(False)
print("torch._dynamo" in sys.modules or "torch._inductor" in sys.modules)
# who wants the compiler gets it all the same
print(torch.compile(lambda x: x * 2, backend="eager")(torch.ones(1)).item())
changed = [(kind, name, was[name]) for kind, was in before for name in was if vars(kind)[name] is not was[name]]
for kind, name, method in changed:
    setattr(kind, name, method)
print({optim.Optimizer, optim.SGD, optim.Adam} < {kind for kind, *_ in changed})
print(spared == [numbers(kind) for kind in kinds])
"""


def test_torch_does_without_its_compiler_and_gives_the_same_numbers() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout.split() == ["False", "2.0", "True", "True"]
