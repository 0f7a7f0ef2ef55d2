"""Limits: how much a merchant may ask for, and how much of it is used."""
