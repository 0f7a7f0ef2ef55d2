"""Sales, from tills and from integrations."""
