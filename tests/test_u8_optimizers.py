"""The laws of unit 8."""
