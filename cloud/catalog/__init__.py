"""Products a merchant sells."""
