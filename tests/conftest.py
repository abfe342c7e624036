"""The fixtures of the suites, one per exercise, come with goodinit's pytest plugin (grading/plugin)."""
