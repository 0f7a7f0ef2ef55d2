"""The folder a virtual printer prints into. Files appear whole; the .json appears last, so it says that the others are there."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from pathlib import Path

from sandboxes.escpos_drawing import draw
from sandboxes.escpos_paper import Paper

_NUMBERED = re.compile(r"(\d{4,})-.*\.(?:png|txt|bin|json)")


class ReceiptFolder:
    """Receipts in the order in which they came out of one printer. `count` is how many this object wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        folder.mkdir(parents=True, exist_ok=True)
        matches = (_NUMBERED.fullmatch(path.name) for path in folder.iterdir())
        self._last = max((int(match[1]) for match in matches if match), default=0)

    async def write(self, paper: Paper, ended_by: str) -> Path:
        """Draws and writes one receipt; returns the path of its .json."""
        self._last += 1
        number = self._last
        written = await asyncio.to_thread(self._write, number, paper, ended_by)
        self.count += 1
        return written

    def _write(self, number: int, paper: Paper, ended_by: str) -> Path:
        now = datetime.now(UTC)
        facts = {
            "number": number,
            "time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "paper_mm": paper.width_mm,
            "ended_by": ended_by,
            "bytes": len(paper.raw),
            "drawer_pulses": len(paper.of_kind("drawer")),
            "cuts": len(paper.of_kind("cut")),
            "qr_codes": [event["text"] for event in paper.of_kind("qr")],
            "images": len(paper.of_kind("image")),
            "events": paper.events,
            "warnings": paper.warnings,
        }
        files = {
            ".png": draw(paper),
            ".txt": "".join(f"{line}\n" for line in paper.text_lines).encode(),
            ".bin": bytes(paper.raw),
            ".json": json.dumps(facts, ensure_ascii=False, indent=1).encode(),
        }
        stem = self.folder / f"{number:04}-{now:%Y%m%dT%H%M%SZ}"
        for suffix, content in files.items():
            unfinished = stem.with_name(f".{stem.name}{suffix}.part")
            unfinished.write_bytes(content)
            unfinished.rename(stem.with_suffix(suffix))
        return stem.with_suffix(".json")
