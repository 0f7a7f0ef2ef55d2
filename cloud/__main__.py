"""`python -m cloud serve | migrate | demo | api-key | audit verify | keys rewrap | restored`."""

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
    serve.add_argument("--link-port", type=int, help="port for tills, with mutual TLS (default: one above --port)")
    serve.add_argument("--enrol-port", type=int, help="port with TLS, where tablets pair (default: two above --port)")
    authority = commands.add_parser("signing-keys", help="make new keys for certificates or policies of tills")
    authority.add_argument("what", choices=["rotate"])
    authority.add_argument("--kind", choices=["authority", "policy"], default="authority", help="which key (default authority)")
    authority.add_argument("--at-once", action="store_true", help="the old key is in wrong hands; tills must be paired again")
    commands.add_parser("migrate", help="bring the schema up to date and end")
    merchant = commands.add_parser("demo", help="make the demo merchant, once")
    merchant.add_argument("--state", type=Path, required=True, help="file for its ids and keys")
    merchant.add_argument("--webhook-url", default="", help="address of a webhook receiver to subscribe")
    audit = commands.add_parser("audit", help="prove that the audit log is as it was written")
    audit.add_argument("what", choices=["verify"])
    audit.add_argument("--tenant", default="", help="only this merchant (all by default)")
    audit.add_argument("--file", type=Path, help="an exported log, one entry a line; needs the key, but no database")
    keys = commands.add_parser("keys", help="secret keys: rewrap after a rotation")
    keys.add_argument("what", choices=["rewrap"])
    key = commands.add_parser("api-key", help="make an API key for a merchant and print it, the only way to a first live key")
    key.add_argument("--tenant", required=True, help="the merchant, as GET /api/v1/me names it")
    key.add_argument("--mode", choices=["test", "live"], default="live", help="for which of its data (default live)")
    key.add_argument("--name", default="Operator", help="what the merchant sees in the list of keys (default Operator)")
    commands.add_parser("restored", help="say that the database was brought back from a backup: every till copies and sends anew")
    arguments = parser.parse_args()

    # After --help, which need not load the world.
    import sqlalchemy as sa

    from cloud import demo, server
    from cloud.platform import database
    from cloud.platform.keyring import KeysUnusable

    telemetry.configure("cloud")
    settings = Settings()
    try:
        if arguments.command == "serve":
            link, enrol = server.tls_ports(arguments.port, arguments.link_port, arguments.enrol_port)
            asyncio.run(server.serve(settings, arguments.host, arguments.port, link_port=link, enrol_port=enrol))
        elif arguments.command == "migrate":
            asyncio.run(_migrate(settings))
        elif arguments.command == "audit":
            return asyncio.run(_verify(settings, arguments.tenant, arguments.file))
        elif arguments.command == "restored":
            asyncio.run(_restored(settings))
        elif arguments.command == "keys":
            asyncio.run(_rewrap(settings))
        elif arguments.command == "signing-keys":
            asyncio.run(_rotate(settings, arguments.kind, at_once=arguments.at_once))
        elif arguments.command == "api-key":
            return asyncio.run(_api_key(settings, arguments.tenant, arguments.mode, arguments.name))
        else:
            asyncio.run(_demo(settings, arguments.state, arguments.webhook_url))
    except (server.PortTaken, server.BackgroundEnded, DatabaseFailed, KeysUnusable) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (sa.exc.DBAPIError, sa.exc.DatabaseError) as error:
        sys.stderr.write(database.complaint(settings.database_url, settings.data_dir / "postgres", error) + "\n")
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

    async with server.connected(settings) as (database, _):
        await demo.create(database, state, webhook_url)


async def _api_key(settings: Settings, tenant_id: str, mode: str, name: str) -> int:
    from cloud import server
    from cloud.accounts import api_keys, merchants
    from kernel.errors import NotFound

    async with server.connected(settings) as (database, _):
        try:
            half = await merchants.half(database, tenant_id, mode, by_operator=True)
        except NotFound as error:
            sys.stderr.write(f"{error}\n")
            return 1
        async with database.transaction(half) as tx:
            made = await api_keys.create(tx, name, mode=mode)
    sys.stdout.write(f"{made}\n")
    return 0


async def _rewrap(settings: Settings) -> None:
    from cloud import server
    from cloud.platform import sealing
    from cloud.tills import signing_keys

    async with server.connected(settings) as (database, keyring), database.across_tenants() as connection:
        count = await sealing.rewrap(connection, keyring)
        await signing_keys.rewrap(connection, keyring)
        sys.stdout.write(f"{count} merchants' keys are wrapped with {keyring.current.id.hex()} now.\n")


async def _rotate(settings: Settings, kind: str, *, at_once: bool) -> None:
    from cloud import server
    from cloud.tills import authorities
    from kernel import business_days

    async with server.connected(settings) as (database, keyring), database.across_tenants() as connection:
        await authorities.read(connection, keyring, business_days.now())  # there must be one to be replaced
        signs_from = await authorities.rotate(connection, keyring, kind, business_days.now(), at_once=at_once)
    sys.stdout.write(f"A new {kind} key was made; it signs from {signs_from.isoformat(timespec='minutes')} on.\n")


async def _restored(settings: Settings) -> None:
    from cloud import server
    from cloud.sync import restores

    async with server.connected(settings) as (database, _):
        count = await restores.raise_all(database)
        sys.stdout.write(f"{count} lanes have a new epoch. Every till gets a fresh copy and sends again what is missing here.\n")


async def _verify(settings: Settings, tenant_id: str, file: Path | None) -> int:
    from cloud import server
    from cloud.audit import commands
    from cloud.platform import keyring as keyrings
    from cloud.platform.keyring import KeysUnusable

    folder = settings.audit_dir or settings.data_dir / "audit"
    if file is None:
        async with server.connected(settings) as (database, keyring):
            return await commands.verify(database, keyring, folder, tenant_id, sys.stdout)
    ring = keyrings.find(settings)
    if ring is None:
        raise KeysUnusable("An export can only be proved with the secret key. Set GIPOS_SECRET_KEY_FILE to a copy of secret.key.")
    return commands.verify_file(file, ring, folder, sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
