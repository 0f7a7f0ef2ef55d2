"""Who the merchant is, its outlets and tills, and who may call."""
