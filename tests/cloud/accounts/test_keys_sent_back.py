"""A key that was read can be sent back: what only the server sets is passed over, as for every other resource."""

from __future__ import annotations

from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from gipos.v1.keys_pb2 import ApiKey, GetApiKeyRequest, UpdateApiKeyRequest


async def test_what_only_the_server_sets_is_passed_over(keys: Any) -> None:
    made = await keys.make(name="Gudang")
    read = await keys.stub.GetApiKey(GetApiKeyRequest(id=made.id), metadata=keys.shop.auth)
    whole = [field.name for field, _ in read.ListFields()]
    for paths, name in ((["id"], "Gudang"), (["hint", "status"], "Gudang"), (whole, "Gudang 2")):
        read.name = name
        request = UpdateApiKeyRequest(api_key=read, update_mask=FieldMask(paths=paths))
        changed = await keys.stub.UpdateApiKey(request, metadata=keys.shop.auth)
        assert (changed.name, changed.mode, changed.hint) == (name, "test", made.hint)


async def test_a_mode_cannot_be_changed_nor_what_does_not_exist(keys: Any) -> None:
    made = await keys.make()
    mask = FieldMask(paths=["mode", "colour"])
    request = UpdateApiKeyRequest(api_key=ApiKey(id=made.id, mode="live"), update_mask=mask)
    failure = await keys.refused(keys.stub.UpdateApiKey(request, metadata=keys.shop.auth))
    assert failure.fields == ["update_mask.paths[0]", "update_mask.paths[1]"]
