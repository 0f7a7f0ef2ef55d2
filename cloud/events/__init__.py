"""The log as integrators and dashboards read it."""
