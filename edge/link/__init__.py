"""The till's end of the one stream to the cloud: what is said (session, pure) and how it travels (client)."""
