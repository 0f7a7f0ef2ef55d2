"""Stock per outlet and the movements behind it."""
