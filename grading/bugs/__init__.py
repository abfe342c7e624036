"""Named wrong answers, right answers written differently, and the diagnosis that recognises a student's mistake."""

from ._bank import BankError, Bug, Variant, bugs_of, load_bugs, load_variants, with_bug
from ._diagnose import MISMATCH, UNHURRIED_SECONDS, Allowance, Diagnosis, OutOfTime, Replay, Run, diagnose, explains
from ._diagnose import SECONDS as DIAGNOSIS_SECONDS

__all__ = [
    "DIAGNOSIS_SECONDS",
    "MISMATCH",
    "UNHURRIED_SECONDS",
    "Allowance",
    "BankError",
    "Bug",
    "Diagnosis",
    "OutOfTime",
    "Replay",
    "Run",
    "Variant",
    "bugs_of",
    "diagnose",
    "explains",
    "load_bugs",
    "load_variants",
    "with_bug",
]
