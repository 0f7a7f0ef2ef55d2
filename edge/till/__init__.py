"""What the cashier touches: cart, checkout, receipts, and a small local API over them."""
