"""The wall: a student's code runs in a confined process, and the suites judge it from outside through stand-ins."""

from ._confine import explain, missing, probe
from ._notebook import CellLimits, CellSandbox, png_base64, run_cells
from ._outer import outer_wall
from ._remote import RemoteSubject, Sandbox, SandboxError

__all__ = [
    "CellLimits",
    "CellSandbox",
    "RemoteSubject",
    "Sandbox",
    "SandboxError",
    "explain",
    "missing",
    "outer_wall",
    "png_base64",
    "probe",
    "run_cells",
]
