"""Performing the examples of the documentation on a running platform."""
