"""Envoy and our gateway, each before an echo service of its own, and what both make of a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from gateway_rest.contract import Contract
from gateway_rest.transcoding import rules

from .cases import Request
from .envoy import Envoy
from .outcomes import Case, Outcome
from .services import EchoService
from .wires import Wire

PACKAGE, SERVICE = "echo.v1", "echo.v1.Echo"


class Sides:
    """Both transcoders, up and running."""

    def __init__(self, contract: Contract, envoy: tuple[int, EchoService], ours: tuple[int, EchoService]) -> None:
        self._contract = contract
        self._rules = rules.load(contract.files, contract.pool, contract.packages)
        self._wires = Wire(envoy[0]), Wire(ours[0])
        self._services = envoy[1], ours[1]
        self._numbers = count()

    @property
    def bindings(self) -> tuple[rules.Binding, ...]:
        """What can be asked."""
        return self._rules.bindings

    async def ask(self, request: Request) -> Case:
        """Sends a request to both."""
        number = f"case-{next(self._numbers)}"
        answers = await asyncio.gather(*(wire.send(number, request) for wire in self._wires))
        envoy, ours = (
            Outcome(answer, service.seen.pop(number, None)) for answer, service in zip(answers, self._services, strict=True)
        )
        binding, _, _ = self._rules.trie.find(request.method, request.path.encode())
        return Case(self._contract, request, binding, envoy, ours)

    def close(self) -> None:
        """Ends the connections."""
        for wire in self._wires:
            wire.close()


@pytest.fixture(scope="session")
def echo_contract(compile_proto: Callable[[str, str], Contract]) -> Contract:
    return compile_proto((Path(__file__).parent / "echo.proto").read_text(), PACKAGE)


@pytest.fixture
async def sides(echo_contract: Contract, serve: Any, tmp_path: Path) -> AsyncIterator[Sides]:
    behind_envoy, behind_ours = EchoService(echo_contract, SERVICE), EchoService(echo_contract, SERVICE)
    await behind_envoy.start()
    await behind_ours.start()
    try:
        async with Envoy(echo_contract, [SERVICE], backend=behind_envoy.port, folder=tmp_path) as envoy:
            async for rest in serve(echo_contract, f"127.0.0.1:{behind_ours.port}"):
                port = int(rest.url.rpartition(":")[2])
                both = Sides(echo_contract, (envoy.port, behind_envoy), (port, behind_ours))
                yield both
                both.close()
    finally:
        await behind_envoy.stop()
        await behind_ours.stop()
