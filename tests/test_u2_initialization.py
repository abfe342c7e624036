"""The laws of unit 2."""
