"""What the platform is measured against, built here from wheels: Envoy's transcoder, and FastAPI with an ORM."""
