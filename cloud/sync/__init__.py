"""The cloud end of the link to the tills."""
