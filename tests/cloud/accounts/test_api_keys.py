"""Keys by the API: shown once, never mightier than who made them, and the last one cannot be lost by accident."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from gipos.v1.accounts_pb2 import GetCallerRequest
from gipos.v1.keys_pb2 import (
    API_KEY_STATUS_ACTIVE,
    API_KEY_STATUS_EXPIRED,
    API_KEY_STATUS_REVOKED,
    API_KEY_STATUS_ROTATING,
    ApiKey,
    CreateApiKeyRequest,
    CreateOAuthClientRequest,
    GetApiKeyRequest,
    ListApiKeysRequest,
    OAuthClient,
    RevokeApiKeyRequest,
    RotateApiKeyRequest,
    UpdateApiKeyRequest,
)
from kernel.scopes import SCOPES

DENIED = grpc.StatusCode.PERMISSION_DENIED


def at(**later: float) -> Timestamp:
    moment = Timestamp()
    moment.FromDatetime(datetime.now(UTC) + timedelta(**later))
    return moment


async def own_id(keys: Any, key: str) -> str:
    who = await keys.shop.accounts.GetCaller(GetCallerRequest(), metadata=keys.auth(key))
    return str(who.key_id)


def change(key: Any, *paths: str, **fields: Any) -> UpdateApiKeyRequest:
    return UpdateApiKeyRequest(api_key=ApiKey(id=key.id, **fields), update_mask=FieldMask(paths=paths))


async def test_a_key_is_shown_once_and_works_at_once(keys: Any) -> None:
    auth = keys.shop.auth
    made = await keys.make(
        "products:read", "products:write", name="Kasir web", allowed_addresses=["127.0.0.0/8", "::ffff:10.0.0.1"]
    )
    assert made.key.startswith("gipos_test_")
    assert made.hint == f"gipos_test_…{made.key[-4:]}"
    assert (made.mode, made.status, list(made.scopes)) == ("test", API_KEY_STATUS_ACTIVE, ["products:read", "products:write"])
    assert list(made.allowed_addresses) == ["127.0.0.0/8", "10.0.0.1/32"]
    await keys.use(made.key)
    got = await keys.stub.GetApiKey(GetApiKeyRequest(id=made.id), metadata=auth)
    assert (got.key, got.name, got.hint) == ("", "Kasir web", made.hint)
    listed = await keys.stub.ListApiKeys(ListApiKeysRequest(), metadata=auth)
    assert [key.name for key in listed.api_keys] == ["Kasir web", "Demo"]
    assert not any(key.key for key in listed.api_keys)


async def test_the_whole_key_is_nowhere_in_the_database(keys: Any, sql: Any) -> None:
    request = CreateApiKeyRequest(api_key=ApiKey(name="x", scopes=["products:read"]), request_id="once")
    made = await keys.stub.CreateApiKey(request, metadata=keys.shop.auth)
    again = await keys.stub.CreateApiKey(request, metadata=keys.shop.auth)
    assert (again.id, again.key) == (made.id, made.key), "the same Idempotency-Key gives the same answer"
    tables = await sql("SELECT table_name AS tablename FROM information_schema.columns WHERE column_name = 'tenant_id'")
    assert len(tables) > 20
    for table in tables:
        rows = await sql(f"SELECT t::text AS row FROM {table.tablename} t")
        body = made.key.removeprefix("gipos_test_")
        assert not [row for row in rows if body in row.row or body.encode().hex() in row.row], table.tablename
    other = await keys.make("api_keys:write", "products:read")
    differs = await keys.stub.CreateApiKey(request, metadata=keys.auth(other.key))
    assert differs.id != made.id, "an idempotency key of one key gives nothing to another"


WRONG: list[tuple[dict[str, Any], list[str]]] = [
    ({"name": ""}, ["name"]),
    ({"name": "x" * 101}, ["name"]),
    ({"scopes": []}, ["scopes"]),
    ({"scopes": ["products:read", "produk:baca"]}, ["scopes[1]"]),
    ({"mode": "prod"}, ["mode"]),
    ({"allowed_addresses": ["10.0.0.1", "10.0.0.1/8", "satu"]}, ["allowed_addresses[1]", "allowed_addresses[2]"]),
    ({"allowed_origins": ["https://toko.example/", "toko.example", "*"]}, ["allowed_origins[0]", "allowed_origins[1]"]),
    ({"requests_per_second": -1}, ["requests_per_second"]),
    ({"expire_time": Timestamp(seconds=1)}, ["expire_time"]),
    ({"expire_time": Timestamp(seconds=2**60)}, ["expire_time"]),
    ({"name": "", "scopes": ["x"]}, ["name", "scopes[0]"]),
]


async def test_every_wrong_field_is_named(keys: Any) -> None:
    for fields, named in WRONG:
        draft = ApiKey(**{"name": "x", "scopes": ["products:read"], **fields})
        failure = await keys.refused(keys.stub.CreateApiKey(CreateApiKeyRequest(api_key=draft), metadata=keys.shop.auth))
        assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
        assert [name.removeprefix("api_key.") for name in failure.fields] == named


async def test_a_key_hands_on_only_what_it_has(keys: Any) -> None:
    small = await keys.make("api_keys:read", "api_keys:write", "products:read")
    full_id = await own_id(keys, keys.shop.api_key)
    auth = keys.auth(small.key)
    failure = await keys.refused(keys.make("products:read", "sales:write", by=small.key))
    assert (failure.code, failure.facts["scope"]) == (DENIED, "sales:write")
    assert "sales:write" in failure.message
    made = await keys.make("products:read", by=small.key)
    # It does not get at a mightier one by changing or replacing it either, nor does it grow by itself.
    for call in (
        keys.stub.UpdateApiKey(change(made, "scopes", scopes=["customers:pii"]), metadata=auth),
        keys.stub.UpdateApiKey(change(small, "scopes", scopes=list(SCOPES)), metadata=auth),
        keys.stub.UpdateApiKey(change(ApiKey(id=full_id), "name", name="Mine"), metadata=auth),
        keys.stub.RotateApiKey(RotateApiKeyRequest(id=full_id), metadata=auth),
    ):
        assert (await keys.refused(call)).code == DENIED
    reader = await keys.make("api_keys:read")
    failure = await keys.refused(keys.make("api_keys:read", by=reader.key))
    assert (failure.code, failure.facts["scope"]) == (DENIED, "api_keys:write")


async def test_a_key_that_ends_lets_nobody_in_for_longer(keys: Any) -> None:
    brief = await keys.make("api_keys:write", "products:read", expire_time=at(hours=1))
    assert (await keys.refused(keys.make("products:read", by=brief.key))).code == DENIED
    assert (await keys.refused(keys.make("products:read", by=brief.key, expire_time=at(hours=2)))).code == DENIED
    await keys.make("products:read", by=brief.key, expire_time=at(minutes=30))
    longer = keys.stub.UpdateApiKey(change(brief, "expire_time", expire_time=at(days=9)), metadata=keys.auth(brief.key))
    assert (await keys.refused(longer)).code == DENIED
    never = keys.stub.UpdateApiKey(change(brief, "expire_time"), metadata=keys.auth(brief.key))
    assert (await keys.refused(never)).code == DENIED


async def test_a_key_that_ends_gets_no_longer_life_by_detours(keys: Any) -> None:
    brief = await keys.make("api_keys:write", "products:read", expire_time=at(hours=1))
    lasting = await keys.make("products:read")
    auth = keys.auth(brief.key)
    rotated = await keys.refused(keys.stub.RotateApiKey(RotateApiKeyRequest(id=lasting.id), metadata=auth))
    assert (rotated.code, "expire_time" in rotated.message) == (DENIED, True)
    application = OAuthClient(name="Bot", scopes=["products:read"])
    made = keys.clients.CreateOAuthClient(CreateOAuthClientRequest(oauth_client=application), metadata=auth)
    assert (await keys.refused(made)).code == DENIED
    # The keys of the other half are written behind another fence, which hides one's own key.
    live = await keys.live()
    brief_live = await keys.make("api_keys:write", "products:read", by=live, mode="live", expire_time=at(hours=1))
    assert (await keys.refused(keys.make("products:read", by=brief_live.key, mode="test"))).code == DENIED
    ends = at(minutes=30)
    assert (await keys.make("products:read", by=brief_live.key, mode="test", expire_time=ends)).expire_time == ends
    # Itself it may rotate: the successor ends when it would have.
    successor = await keys.stub.RotateApiKey(RotateApiKeyRequest(id=brief.id), metadata=auth)
    assert successor.expire_time == brief.expire_time


async def test_only_what_the_mask_names_changes(keys: Any) -> None:
    made = await keys.make("products:read", "sales:read", allowed_addresses=["127.0.0.1"], requests_per_second=3)
    renamed = await keys.stub.UpdateApiKey(change(made, "name", name="Baru"), metadata=keys.shop.auth)
    assert (renamed.name, list(renamed.allowed_addresses), renamed.requests_per_second) == ("Baru", ["127.0.0.1/32"], 3)
    fields = {"scopes": ["products:read"], "addresses_dry_run": True, "allowed_origins": ["https://toko.example"]}
    changed = await keys.stub.UpdateApiKey(change(made, *fields, **fields), metadata=keys.shop.auth)
    assert (list(changed.scopes), changed.addresses_dry_run) == (["products:read"], True)
    assert list(changed.allowed_origins) == ["https://toko.example"]
    await keys.use(made.key)
    failure = await keys.refused(keys.stub.UpdateApiKey(change(made, "mode", "key", mode="live"), metadata=keys.shop.auth))
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
    assert len(failure.fields) == 2
    missing = keys.stub.UpdateApiKey(change(ApiKey(id="key_x"), "name", name="x"), metadata=keys.shop.auth)
    assert (await keys.refused(missing)).reason == "RESOURCE_NOT_FOUND"


async def test_a_scope_taken_away_is_gone_with_the_answer(keys: Any) -> None:
    made = await keys.make("products:read", "sales:read")
    await keys.use(made.key)
    await keys.stub.UpdateApiKey(change(made, "scopes", scopes=["sales:read"]), metadata=keys.shop.auth)
    failure = await keys.refused(keys.use(made.key))
    assert (failure.code, failure.facts["scope"]) == (DENIED, "products:read")


async def test_rotation_overlaps_and_then_ends_the_old_key(keys: Any) -> None:
    old = await keys.make("products:read", allowed_addresses=["127.0.0.1"], requests_per_second=7)
    new = await keys.stub.RotateApiKey(RotateApiKeyRequest(id=old.id), metadata=keys.shop.auth)
    assert (new.predecessor_id, list(new.scopes), list(new.allowed_addresses)) == (old.id, ["products:read"], ["127.0.0.1/32"])
    assert new.requests_per_second == 7
    assert new.key != old.key
    replaced = await keys.stub.GetApiKey(GetApiKeyRequest(id=old.id), metadata=keys.shop.auth)
    assert (replaced.status, replaced.successor_id) == (API_KEY_STATUS_ROTATING, new.id)
    assert abs(replaced.expire_time.seconds - datetime.now(UTC).timestamp() - 86400) < 60
    await keys.use(old.key)
    await keys.use(new.key)
    again = await keys.refused(keys.stub.RotateApiKey(RotateApiKeyRequest(id=old.id), metadata=keys.shop.auth))
    assert new.id in again.message
    put_off = keys.stub.UpdateApiKey(change(old, "expire_time", expire_time=at(days=5)), metadata=keys.shop.auth)
    assert (await keys.refused(put_off)).reason == "KEY_ENDED"
    last = await keys.stub.RotateApiKey(RotateApiKeyRequest(id=new.id, overlap=Duration()), metadata=keys.shop.auth)
    failure = await keys.refused(keys.use(new.key))
    assert failure.code == grpc.StatusCode.UNAUTHENTICATED
    assert last.id in failure.message
    ended = await keys.stub.GetApiKey(GetApiKeyRequest(id=new.id), metadata=keys.shop.auth)
    assert ended.status == API_KEY_STATUS_EXPIRED
    await keys.use(last.key)


async def test_an_overlap_beyond_a_week_is_refused(keys: Any) -> None:
    for overlap in (Duration(seconds=-1), Duration(seconds=604_801), Duration(seconds=2**60)):
        call = keys.stub.RotateApiKey(RotateApiKeyRequest(id="key_x", overlap=overlap), metadata=keys.shop.auth)
        assert (await keys.refused(call)).fields == ["overlap"]


async def test_a_revoked_key_is_refused_at_once_and_revoking_repeats(keys: Any) -> None:
    made = await keys.make("products:read")
    await keys.use(made.key)
    for _ in range(2):
        ended = await keys.stub.RevokeApiKey(RevokeApiKeyRequest(id=made.id), metadata=keys.shop.auth)
        assert (ended.status, ended.HasField("revoke_time")) == (API_KEY_STATUS_REVOKED, True)
    assert (await keys.refused(keys.use(made.key))).code == grpc.StatusCode.UNAUTHENTICATED
    shown = await keys.stub.ListApiKeys(ListApiKeysRequest(), metadata=keys.shop.auth)
    assert made.id not in [key.id for key in shown.api_keys]
    shown = await keys.stub.ListApiKeys(ListApiKeysRequest(show_ended=True), metadata=keys.shop.auth)
    assert made.id in [key.id for key in shown.api_keys]
    dead = keys.stub.UpdateApiKey(change(made, "name", name="x"), metadata=keys.shop.auth)
    assert (await keys.refused(dead)).reason == "KEY_ENDED"


async def test_the_last_key_that_manages_keys_stays(keys: Any) -> None:
    auth = keys.shop.auth
    mine = ApiKey(id=await own_id(keys, keys.shop.api_key))
    for call in (
        keys.stub.RevokeApiKey(RevokeApiKeyRequest(id=mine.id), metadata=auth),
        keys.stub.UpdateApiKey(change(mine, "scopes", scopes=["products:read"]), metadata=auth),
        keys.stub.UpdateApiKey(change(mine, "expire_time", expire_time=at(days=1)), metadata=auth),
    ):
        failure = await keys.refused(call)
        assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LOCK_OUT")
        assert "Create or rotate" in failure.message
    # A successor is somebody; the one it replaces is not.
    successor = await keys.stub.RotateApiKey(RotateApiKeyRequest(id=mine.id), metadata=auth)
    failure = await keys.refused(keys.stub.RevokeApiKey(RevokeApiKeyRequest(id=successor.id), metadata=auth))
    assert failure.reason == "LOCK_OUT"
    await keys.stub.RevokeApiKey(RevokeApiKeyRequest(id=mine.id), metadata=keys.auth(successor.key))
    await keys.use(successor.key)


async def test_keys_are_listed_in_pages_newest_first(keys: Any) -> None:
    made = [(await keys.make("products:read", name=f"Kunci {number}")).id for number in range(4)]
    seen: list[str] = []
    token = ""
    while True:
        request = ListApiKeysRequest(page_size=2, page_token=token)
        page = await keys.stub.ListApiKeys(request, metadata=keys.shop.auth)
        assert len(page.api_keys) <= 2
        seen += [key.id for key in page.api_keys]
        token = page.next_page_token
        assert page.has_more == bool(token)
        if not token:
            break
    assert seen[:4] == made[::-1]
    assert len(seen) == 5


async def test_another_merchants_key_does_not_exist(keys: Any, other_merchant: Any) -> None:
    other = await other_merchant()
    theirs = await keys.make("products:read", by=other["api_key"])
    for call in (
        keys.stub.GetApiKey(GetApiKeyRequest(id=theirs.id), metadata=keys.shop.auth),
        keys.stub.RotateApiKey(RotateApiKeyRequest(id=theirs.id), metadata=keys.shop.auth),
        keys.stub.RevokeApiKey(RevokeApiKeyRequest(id=theirs.id), metadata=keys.shop.auth),
        keys.stub.UpdateApiKey(change(theirs, "name", name="x"), metadata=keys.shop.auth),
    ):
        assert (await keys.refused(call)).reason == "RESOURCE_NOT_FOUND"
    await keys.use(theirs.key)
