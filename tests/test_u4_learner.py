"""The laws of unit 4."""
