"""What screens on the wall show: small values worked out from tables once, and moved forward by the log from there."""
