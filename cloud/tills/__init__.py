"""Tablets as tills: pairing, keys and certificates, states, offline policies, commands."""
