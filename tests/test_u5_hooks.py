"""The laws of unit 5."""
