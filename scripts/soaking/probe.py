"""An outside client of the link: speaks the published messages by their numbers, confirms late on purpose, checks what it gets.

What it does as a till is in selling.py.

It shares no code with the product. What breaks a promise is appended to a file; what it holds is written to another.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import ssl
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

import grpc
from grpc import aio

from scripts.soaking.reading import goods
from scripts.soaking.selling import Till
from scripts.soaking.wire import Message, thousandths, written

METHOD = "/gipos.edge.v1.EdgeLinkService/Link"
CAPABILITIES = ("bookmarks", "not_applied", "part_credit")
STATE, BROKEN = "probe.json", "probe-broken.jsonl"
CONFIRMS_SECONDS, HOLDS_SECONDS = 4.0, 1.5
"""It confirms at once for so long, and then confirms nothing for so long."""
PIECES = 4
"""Pieces of a snapshot ahead of what was confirmed, by docs/reference/link.md."""
SELLS_SECONDS = 0.6
MOST_SOLD = 6
"""Products."""
_COST = 8
_HELLO, _APPLIED, _PING = 1, 3, 4
_WELCOME, _STORED, _CHANGES, _PROGRESS, _RESET, _SNAPSHOT = 1, 2, 3, 4, 5, 6


Call: TypeAlias = "aio.StreamStreamCall[bytes, bytes]"


@dataclass
class Lane:
    """What it holds of a lane."""

    epoch: int = 0
    seq: int = -1
    """Where it stands; -1 for nowhere."""
    rows: dict[str, bytes] = field(default_factory=dict)
    coming: dict[str, bytes] = field(default_factory=dict)
    """Of a snapshot that is arriving."""
    piece: int = 0
    unconfirmed: list[bytes] = field(default_factory=list)


class Client:
    """The client, over many streams."""

    def __init__(self, folder: Path, *, only_looks: bool = False) -> None:
        self._folder = folder
        self._only_looks = only_looks
        self._lanes: dict[str, Lane] = {}
        self._credit = 0
        self._began = time.monotonic()
        self._till = Till(folder, self._break, int(time.time() * 1000))
        self._number = 0

    @property
    def _holds(self) -> bool:
        return (time.monotonic() - self._began) % (CONFIRMS_SECONDS + HOLDS_SECONDS) > CONFIRMS_SECONDS

    def _break(self, sentence: str) -> None:
        with (self._folder / BROKEN).open("a", encoding="utf-8") as file:
            file.write(json.dumps(sentence) + "\n")

    async def run(self) -> None:
        """Connects, and connects again, until killed."""
        while True:
            try:
                async with _channel(self._folder) as channel:
                    await self._converse(channel)
            except aio.AioRpcError as error:
                print(error.code().name, error.details(), flush=True)
            await asyncio.sleep(random.uniform(0.2, 1.0))  # noqa: S311 (spreads load)

    async def _converse(self, channel: aio.Channel) -> None:
        call: Call = channel.stream_stream(METHOD)()
        for lane in self._lanes.values():
            lane.unconfirmed.clear()
            lane.coming, lane.piece = {}, 0
        places = [(2, written((1, name), (2, lane.epoch), (3, lane.seq))) for name, lane in self._lanes.items() if lane.seq >= 0]
        offered = [(5, name) for name in CAPABILITIES]
        self._till.is_open = False
        hello = written((1, self._till.epoch), *places, *self._till.said(), (4, "outside"), *offered, (8, "outside"))
        await call.write(written((_HELLO, hello)))
        beat = asyncio.create_task(self._beat(call))
        try:
            while isinstance(data := await call.read(), bytes):
                self._take(Message(data))
                self._save()
        finally:
            beat.cancel()
            call.cancel()

    async def _beat(self, call: Call) -> None:
        """The only one that writes after Hello: confirmations, what was sold, and a ping now and then."""
        pinged = sold = time.monotonic()
        while True:
            await asyncio.sleep(0.05)
            if not self._holds:
                for lane in self._lanes.values():
                    confirmed, lane.unconfirmed = lane.unconfirmed, []
                    for data in confirmed:
                        await call.write(written((_APPLIED, data)))
            if time.monotonic() - sold > SELLS_SECONDS:
                sold = time.monotonic()
                if (batch := self._till.batch(self._on_sale())) is not None:
                    await call.write(batch)
            if time.monotonic() - pinged > 5:
                pinged = time.monotonic()
                self._number += 1
                await call.write(written((_PING, written((2, self._number)))))

    def _take(self, frame: Message) -> None:
        if frame.has(_WELCOME):
            self._credit = Message(frame.raw(_WELCOME)).number(9)
            self._till.welcomed(Message(frame.raw(_WELCOME)))
        elif frame.has(_STORED):
            self._till.stored(Message(frame.raw(_STORED)))
        elif frame.has(_CHANGES):
            self._changes(Message(frame.raw(_CHANGES)))
        elif frame.has(_PROGRESS):
            for place in Message(frame.raw(_PROGRESS)).many(4):
                self._reached(Message(place))
        elif frame.has(_RESET):
            lane = self._lane(Message(frame.raw(_RESET)).text(1))
            lane.coming, lane.piece, lane.epoch, lane.seq = {}, 0, 0, -1
            lane.unconfirmed.clear()
        elif frame.has(_SNAPSHOT):
            self._snapshot(Message(frame.raw(_SNAPSHOT)))

    def _lane(self, name: str) -> Lane:
        return self._lanes.setdefault(name, Lane())

    def _changes(self, changes: Message) -> None:
        name, epoch, start, end = changes.text(1), changes.number(2), changes.number(3), changes.number(4)
        lane = self._lane(name)
        if (epoch, start) != (lane.epoch, lane.seq):
            self._break(
                f"A range ({start}, {end}] of epoch {epoch} came in lane {name}, which stands at {lane.seq} of {lane.epoch}."
            )
        for each in map(Message, changes.many(5)):
            if not start < each.number(1) <= end:
                self._break(f"A range ({start}, {end}] of lane {name} has a change of position {each.number(1)}.")
            self._put(name, lane.rows, each, is_tail=True)
        lane.epoch, lane.seq = epoch, end
        lane.unconfirmed.append(written((1, name), (2, epoch), (3, end)))
        if len(lane.unconfirmed) > self._credit:
            self._break(f"{len(lane.unconfirmed)} ranges of lane {name} are under way unconfirmed; the credit is {self._credit}.")

    def _reached(self, place: Message) -> None:
        name, epoch, end, start = place.text(1), place.number(2), place.number(3), place.number(4)
        lane = self._lane(name)
        if (epoch, start) != (lane.epoch, lane.seq):
            self._break(f"({start}, {end}] of lane {name} was passed over, which stands at {lane.seq} of {lane.epoch}.")
        lane.seq = end

    def _snapshot(self, part: Message) -> None:
        name, epoch, seq, index = part.text(1), part.number(2), part.number(3), part.number(4)
        lane = self._lane(name)
        if index != lane.piece:
            self._break(f"Piece {index} of a snapshot of lane {name} came, and piece {lane.piece} was to come.")
        for each in map(Message, part.many(6)):
            self._put(name, lane.coming, each, is_tail=False)
        lane.piece += 1
        parts = 0 if part.number(5) else lane.piece
        lane.unconfirmed.append(written((1, name), (2, epoch), (3, seq), (4, parts)))
        if len(lane.unconfirmed) > PIECES + 1:
            self._break(f"{len(lane.unconfirmed)} pieces of lane {name} are under way unconfirmed.")
        if part.number(5):
            lane.rows, lane.coming, lane.piece = lane.coming, {}, 0
            lane.epoch, lane.seq = epoch, seq

    def _put(self, name: str, rows: dict[str, bytes], change: Message, *, is_tail: bool) -> None:
        if change.has(10):
            body = change.raw(10)
            rows[Message(body).text(1)] = body
            if Message(body).has(_COST):
                self._break(f"What product {Message(body).text(1)} cost the merchant was told to a till.")
        elif change.has(11):
            body = change.raw(11)
            level = Message(body)
            before = rows.get(level.text(1))
            if is_tail and before is not None and Message(before).number(6) > level.number(6):
                self._break(f"An older level of {level.text(1)} came after a newer one in lane {name}.")
            rows[level.text(1)] = body

    def _on_sale(self) -> list[str]:
        rows = self._lanes.get("tenant", Lane()).rows
        return [] if self._only_looks else [key for key, body in rows.items() if not Message(body).has(16)][:MOST_SOLD]

    def _save(self) -> None:
        """Writes what it holds, whole."""
        state: dict[str, object] = {"lanes": {name: [lane.epoch, lane.seq] for name, lane in self._lanes.items()}}
        tenant = self._lanes.get("tenant", Lane()).rows
        state["products"] = {key: asdict(goods(Message(body), is_archived=Message(body).has(16))) for key, body in tenant.items()}
        levels = [body for name, lane in self._lanes.items() if name != "tenant" for body in lane.rows.values()]
        shelves = [Message(body) for body in levels]
        state["levels"] = {
            level.text(1): [thousandths(level.text(3)), thousandths(level.text(4)), level.number(6)] for level in shelves
        }
        draft = self._folder / f"{STATE}.tmp"
        draft.write_text(json.dumps(state))
        draft.replace(self._folder / STATE)


def _channel(folder: Path) -> aio.Channel:
    """With the certificate that pairing has left in the folder."""
    paired = json.loads((folder / "identity.json").read_text())

    def pem(name: str) -> bytes:
        return "".join(ssl.DER_cert_to_PEM_cert(base64.b64decode(each)) for each in paired[name]).encode()

    credentials = grpc.ssl_channel_credentials(pem("authorities"), (folder / "till.key").read_bytes(), pem("certificates"))
    options = [
        ("grpc.ssl_target_name_override", "link.gipos.internal"),
        ("grpc.min_reconnect_backoff_ms", 300),
        ("grpc.max_reconnect_backoff_ms", 800),
        ("grpc.enable_http_proxy", 0),
    ]
    return aio.secure_channel(paired["link_address"], credentials, options=options)


if __name__ == "__main__":
    asyncio.run(Client(Path(sys.argv[1]), only_looks=sys.argv[2:] == ["looks"]).run())
