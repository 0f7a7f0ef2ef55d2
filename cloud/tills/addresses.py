"""Where tablets find this cloud, as far as it can know that itself; what it cannot know is a setting."""

from __future__ import annotations

import socket
from dataclasses import dataclass

_EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 (nothing is bound here)


@dataclass
class Addresses:
    """Set once the ports are open."""

    host: str
    """What this process listens on."""
    link_setting: str = ""
    enrol_setting: str = ""
    link_port: int = 0
    """0 when there is no door with mutual TLS."""
    enrol_port: int = 0

    @property
    def link(self) -> str:
        """Where the link with mutual TLS is: host:port, :port for the host that was asked, or nothing when there is none."""
        return self.link_setting or (f":{self.link_port}" if self.link_port else "")

    @property
    def enrol(self) -> str:
        """Where tablets pair: host:port."""
        if self.enrol_setting:
            return self.enrol_setting
        name = socket.gethostname() if self.host in _EVERYWHERE else self.host
        return f"[{name}]:{self.enrol_port}" if ":" in name else f"{name}:{self.enrol_port}"

    @property
    def names(self) -> list[str]:
        """Names and addresses of these, for the certificate."""
        given = (text.rpartition(":")[0].strip("[]") for text in (self.link_setting, self.enrol_setting))
        here = [] if self.host in _EVERYWHERE else [self.host]
        return [*here, *(name for name in given if name)]
