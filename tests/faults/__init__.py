"""Fault tests: break something at a chosen moment, then ask what a user would have lost."""
