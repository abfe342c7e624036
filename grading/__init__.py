"""The machinery of goodinit: from a student's file to a verdict that can be trusted."""
