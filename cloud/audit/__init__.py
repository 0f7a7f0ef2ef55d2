"""Who did what: entries chained by hashes, so that no change of the past goes unseen."""
