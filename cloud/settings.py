"""What can be set from outside. Every setting is an environment variable GIPOS_…; the defaults run on one machine."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """The cloud's settings."""

    model_config = SettingsConfigDict(env_prefix="GIPOS_")

    database_url: str = ""
    """postgresql://user@host/database of a server of your own (15 or newer). Empty: PostgreSQL is embedded in data_dir."""
    data_dir: Path = Path("var")
    """Where the embedded PostgreSQL keeps its files, and where the secret key and the checkpoints of the audit log are."""
    secret_key: str = Field(default="", repr=False)
    """base64 of 32 random bytes: what secrets and personal data in the database are sealed with, the same for every process on
    one database. Empty: the file of secret_key_file, or secret.key in data_dir, which is made on the first start."""
    secret_key_file: Path | None = None
    """A file with the key, or with several, a line each, the current one first."""
    secret_keys: str = Field(default="", repr=False)
    """Several keys separated by commas, the current one first: the others open what was sealed before a rotation."""
    audit_dir: Path | None = None
    """Where signed checkpoints of the audit log are appended, best on another volume. Empty: audit in data_dir."""
    database_connections: int = 16
    """How many connections each of the two pools may open."""
    link_address: str = ""
    """host:port where tills find the link with mutual TLS, if not at the host they paired with and --link-port."""
    enrol_address: str = ""
    """host:port where tablets pair, for QR codes, if not at this machine's name and --enrol-port."""
    trusted_proxies: str = "127.0.0.0/8,::1"
    """Addresses and networks of gateways, separated by commas: what they say about a client's address is believed."""
    webhook_private_addresses: bool = False
    """Whether webhooks may point to loopback and private addresses. For development only."""
    coalesced_writes: bool = True
    """Whether new products and sales that wait at the same moment share a transaction. Off, each has one of its own."""
    online_floor: int = Field(default=1, ge=0)
    """Of every product, at least so many pieces are held back from online channels while a till of the outlet is offline."""
    online_cover_days: int = Field(default=14, ge=0)
    """What would be sold out within so many days is withheld online once a till may no longer sell offline."""
    log_days: int = Field(default=30, ge=1)
    """How long events are kept. A till or an integration that was away for longer begins with a copy of the state."""
    log_least: int = Field(default=1_000, ge=1)
    """How many events of each lane are kept whatever their age."""
    drain_seconds: float = 5.0
    """How long calls in flight may take to finish when the process is asked to stop."""
