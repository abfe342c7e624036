"""The laws of unit 9."""
