"""The laws of unit 3."""
