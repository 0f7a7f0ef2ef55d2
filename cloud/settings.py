"""What can be set from outside. Every setting is an environment variable GIPOS_…; the defaults run on one machine."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The cloud's settings."""

    model_config = SettingsConfigDict(env_prefix="GIPOS_")

    database_url: str = ""
    """postgresql://user@host/database of a server of your own (15 or newer). Empty: PostgreSQL is embedded in data_dir."""
    data_dir: Path = Path("var")
    """Where the embedded PostgreSQL keeps its files."""
    database_connections: int = 16
    """How many connections each of the two pools may open."""
    webhook_private_addresses: bool = False
    """Whether webhooks may point to loopback and private addresses. For development only."""
    drain_seconds: float = 5.0
    """How long calls in flight may take to finish when the process is asked to stop."""
