"""`python -m cloud audit verify`: one line per merchant, and an exit code that a scheduled job can act on."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import sqlalchemy as sa

from cloud.audit import checkpoints, verification
from cloud.audit.checkpoints import Checkpoints
from cloud.platform.database import Database
from cloud.platform.keyring import Keyring

INTACT, BROKEN, UNUSABLE = 0, 1, 2

_MERCHANT = sa.text("SELECT true FROM tenants WHERE tenant_id = :tenant_id")


async def verify(database: Database, keyring: Keyring, folder: Path, tenant_id: str, out: TextIO) -> int:
    """Proves the chains of all merchants, or of one; 0 when all hold, 2 when there is no such merchant."""
    known = checkpoints.read(folder, keyring)
    broken = _complain(known, folder, out)
    if tenant_id:
        verdicts = [await verification.tenant(database, keyring, known, tenant_id)]
        if verdicts[0].finding is None and not verdicts[0].checked and not await _exists(database, tenant_id):
            # "Intact, 0 entries" would be true of every misspelt id, and of the wrong database.
            print(f"There is no merchant {tenant_id} in this database.", file=out)
            return UNUSABLE
    else:
        verdicts = [verdict async for verdict in verification.everybody(database, keyring, known)]
    for verdict in verdicts:
        print(verdict, file=out)
        broken = broken or verdict.finding is not None
    return BROKEN if broken else INTACT


async def _exists(database: Database, tenant_id: str) -> bool:
    async with database.reading(tenant_id) as connection:
        found = await connection.execute(_MERCHANT, {"tenant_id": tenant_id})
        return found.scalar_one_or_none() is not None


def verify_file(path: Path, keyring: Keyring, folder: Path, out: TextIO) -> int:
    """Proves an export; 0 when it holds, 2 when it is no export."""
    known = checkpoints.read(folder, keyring)
    broken = _complain(known, folder, out)
    try:
        verdict = verification.file(path, keyring, known)
    except (OSError, ValueError) as error:
        print(error, file=out)
        return UNUSABLE
    print(verdict, file=out)
    return BROKEN if broken or verdict.finding is not None else INTACT


def _complain(known: Checkpoints, folder: Path, out: TextIO) -> bool:
    path = folder / checkpoints.FILE
    for line in known.torn:
        print(f"Line {line} of {path} is no checkpoint (cut off by a crash?) and was ignored.", file=out)
    for line in known.forged:
        print(f"Line {line} of {path} is NOT SIGNED by a key of ours.", file=out)
    return bool(known.forged)
