"""Merchants with nothing sold yet, on a cloud and a gateway of this process, for performing examples against real ports."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cloud import demo, server
from cloud.settings import Settings
from gateway_rest import contract
from gateway_rest.__main__ import Server, bind, configured
from gateway_rest.app import Gateway
from gateway_rest.channel import GrpcChannel


@dataclass(frozen=True)
class Shops:
    """Where they are."""

    url: str
    keys: list[str]
    """An API key for each merchant."""


@asynccontextmanager
async def opened(database_url: str, folder: Path, count: int) -> AsyncIterator[Shops]:
    """So many merchants on a database that exists and may be empty.

    Args:
        database_url: PostgreSQL.
        folder: For the secret key and the merchants' files.
        count: How many merchants.
    """
    settings = Settings(
        database_url=database_url, data_dir=folder, webhook_private_addresses=True, drain_seconds=0.2, database_connections=6
    )
    async with server.running(settings) as cloud:
        keys = []
        for number in range(count):
            state = folder / f"merchant-{number}.json"
            await demo.create(cloud.database, state, "")
            keys.append(json.loads(state.read_text("utf-8"))["api_key"])
        gateway = Gateway(contract.installed(), lambda: GrpcChannel(f"127.0.0.1:{cloud.port}"))
        rest = Server(configured(gateway, graceful_seconds=2), gateway)
        listener = bind("127.0.0.1", 0)
        task = asyncio.create_task(rest.serve(sockets=[listener]))
        while not rest.started:
            if task.done():
                await task
            await asyncio.sleep(0.005)
        try:
            yield Shops(f"http://127.0.0.1:{listener.getsockname()[1]}", keys)
        finally:
            rest.should_exit = True
            await task
