"""Measurements of a running platform. Machines differ and are shared, so what counts are ratios of things timed side by side."""
