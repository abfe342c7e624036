"""The late policy of course.toml, as the plugin that nbgrader's own AssignLatePenalties asks."""

from __future__ import annotations

import math

from nbgrader.plugins import LateSubmissionPlugin
from traitlets import Float

HOUR, DAY = 60 * 60, 24 * 60 * 60


class LatePolicy(LateSubmissionPlugin):  # type: ignore[misc]
    """Takes nothing within the grace, then a share of a notebook's points for each day begun since the due date.

    nbgrader asks when it autogrades, and again when it generates feedback: a person may have given points in between.
    """

    grace_hours = Float(0.0, help="hours after the due date that cost nothing").tag(config=True)
    percent_per_day = Float(0.0, help="percent of the points for each day begun").tag(config=True)
    percent_at_most = Float(100.0, help="what the days take at most").tag(config=True)
    zero_after_days = Float(None, allow_none=True, help="days after which nothing is left").tag(config=True)

    def late_submission_penalty(self, student_id: str, score: float, total_seconds_late: float) -> float:
        """The points that a notebook with `score` points loses; the due date includes an extension."""
        return score * (self.percent(total_seconds_late) / 100)

    def percent(self, seconds: float) -> float:
        if seconds <= self.grace_hours * HOUR:
            return 0.0
        if self.zero_after_days is not None and seconds > self.zero_after_days * DAY:
            return 100.0
        return float(min(self.percent_at_most, self.percent_per_day * math.ceil(seconds / DAY)))
