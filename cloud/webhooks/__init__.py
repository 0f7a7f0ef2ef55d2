"""Where events are posted to, and how that went."""
