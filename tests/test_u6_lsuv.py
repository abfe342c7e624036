"""The laws of unit 6."""
