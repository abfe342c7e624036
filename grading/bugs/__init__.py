"""Named wrong answers, right answers written differently, and the diagnosis that recognises a student's mistake."""

from ._bank import BankError, Bug, Variant, load_bugs, load_variants, with_bug
from ._diagnose import SECONDS as DIAGNOSIS_SECONDS
from ._diagnose import Diagnosis, Replay, Run, diagnose

__all__ = [
    "DIAGNOSIS_SECONDS",
    "BankError",
    "Bug",
    "Diagnosis",
    "Replay",
    "Run",
    "Variant",
    "diagnose",
    "load_bugs",
    "load_variants",
    "with_bug",
]
