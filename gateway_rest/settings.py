"""Where the gateway listens and where the cloud is: environment variables GIPOS_…, overridden by command line flags."""

from __future__ import annotations

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings of one gateway process."""

    model_config = SettingsConfigDict(populate_by_name=True, extra="ignore")

    host: str = Field(default="127.0.0.1", validation_alias=AliasChoices("GIPOS_GATEWAY_HOST", "host"))
    port: int = Field(default=8080, ge=0, le=65535, validation_alias=AliasChoices("GIPOS_GATEWAY_PORT", "port"))
    cloud: str = Field(default="127.0.0.1:8081", validation_alias=AliasChoices("GIPOS_CLOUD_ADDRESS", "cloud"))
    """host:port of the cloud's gRPC."""
    graceful_seconds: int = Field(
        default=5, ge=1, validation_alias=AliasChoices("GIPOS_GATEWAY_GRACEFUL_SECONDS", "graceful_seconds")
    )
    """How long requests under way may take to finish when the process is asked to stop."""
