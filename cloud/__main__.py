"""`python -m cloud serve | migrate | demo`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from cloud.platform import telemetry
from cloud.platform.cluster import DatabaseFailed
from cloud.settings import Settings


def main() -> int:
    """Runs a command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m cloud", description="The cloud: gRPC services over PostgreSQL.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve until SIGTERM; brings the schema up to date first")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8081, help="port to listen on (default 8081)")
    commands.add_parser("migrate", help="bring the schema up to date and end")
    merchant = commands.add_parser("demo", help="make the demo merchant, once")
    merchant.add_argument("--state", type=Path, required=True, help="file for its ids and keys")
    merchant.add_argument("--webhook-url", default="", help="address of a webhook receiver to subscribe")
    arguments = parser.parse_args()

    # After --help, which need not load the world.
    import sqlalchemy as sa
    from sqlalchemy.engine import make_url

    from cloud import demo, server

    telemetry.configure("cloud")
    settings = Settings()
    try:
        if arguments.command == "serve":
            asyncio.run(server.serve(settings, arguments.host, arguments.port))
        elif arguments.command == "migrate":
            asyncio.run(_migrate(settings))
        else:
            asyncio.run(_demo(settings, arguments.state, arguments.webhook_url))
    except (server.PortTaken, server.BackgroundEnded, DatabaseFailed) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (sa.exc.DBAPIError, sa.exc.DatabaseError) as error:
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        where = settings.database_url or f"in {settings.data_dir / 'postgres'}"
        sys.stderr.write(
            f"The database {make_url(where).render_as_string() if settings.database_url else where} cannot be used ({reason}). "
            "Bring it back from a backup; a demo starts anew when its folder is removed.\n"
        )
        return 1
    except demo.StateDamaged as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


async def _migrate(settings: Settings) -> None:
    from cloud import server

    async with server.connected(settings):
        pass


async def _demo(settings: Settings, state: Path, webhook_url: str) -> None:
    from cloud import demo, server

    async with server.connected(settings) as database:
        await demo.create(database, state, webhook_url)


if __name__ == "__main__":
    sys.exit(main())
