"""Live dashboards over WebSocket: topics with versions, the newest value wins, one writer for each socket."""
