"""The laws of unit 7."""
