"""The wall: a student's code runs in a confined process, and the suites judge it from outside through stand-ins."""

from ._confine import end_with, explain, missing, probe
from ._notebook import CellSandbox, run_cells
from ._outer import outer_wall
from ._processes import Sandbox, SandboxError
from ._remote import RemoteSubject

__all__ = [
    "CellSandbox",
    "RemoteSubject",
    "Sandbox",
    "SandboxError",
    "end_with",
    "explain",
    "missing",
    "outer_wall",
    "probe",
    "run_cells",
]
