"""Servers that behave like the outside world, for development and tests. They import none of our code."""
