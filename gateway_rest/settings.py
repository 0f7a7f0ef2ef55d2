"""Where the gateway listens and where the cloud is: environment variables GIPOS_…, overridden by command line flags."""

from __future__ import annotations

from typing import Self

from pydantic import AliasChoices, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway_rest.forwarding import Proxies


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
    body_limit: int = Field(
        default=4 * 1024 * 1024, ge=1024, validation_alias=AliasChoices("GIPOS_GATEWAY_BODY_LIMIT", "body_limit")
    )
    """Bytes of a request body, unpacked. The cloud takes messages of up to 16 MiB."""
    tls_cert: str = Field(default="", validation_alias=AliasChoices("GIPOS_GATEWAY_TLS_CERT", "tls_cert"))
    """PEM file with the certificate and its chain. Without it the gateway speaks plain HTTP, for a proxy in front of it."""
    tls_key: str = Field(default="", validation_alias=AliasChoices("GIPOS_GATEWAY_TLS_KEY", "tls_key"))
    """PEM file with the private key."""
    trusted_proxies: str = Field(default="", validation_alias=AliasChoices("GIPOS_GATEWAY_TRUSTED_PROXIES", "trusted_proxies"))
    """Addresses or networks (CIDR), separated by commas, whose X-Forwarded-For, X-Forwarded-Proto and Forwarded are believed."""

    @property
    def proxies(self) -> Proxies:
        """The trusted proxies."""
        return Proxies(item for item in self.trusted_proxies.split(",") if item.strip())

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("TLS needs both a certificate and its key")
        _ = self.proxies  # a ValueError names the part that is no network
        return self
