"""Counting a shelf: "there are twelve" is queued like a sale, with what the till had seen, and shown at once.

The cloud turns it into the difference to what the counter could see, so that sales of other tills in the meantime are kept; here
the same difference is taken, to what this till shows.
"""

from __future__ import annotations

import apsw

from edge.storage import lanes, levels, outbox
from edge.storage.folder import Storage
from edge.till import stock
from edge.till.cart import find_product, identify
from edge.till.requests import CountRequest
from edge.till.stock import ShownStock
from gipos.edge.v1.link_pb2 import Operation, StockCounted
from kernel import ids, quantities


async def count(storage: Storage, request: CountRequest) -> ShownStock:
    """Records a count and returns the stock as this till shows it now.

    Raises:
        Invalid: the code is no product code.
        NotFound: nobody has this code, or there is no such product.
        StorageFull: the disk is full; nothing was recorded.
        TillNotReady: the cloud has never said which outlet this is.
    """
    storage.space.check_beginning()
    identity = await identify(storage)
    product = await find_product(storage, request)
    outlet_id = identity.outlet.id
    place, known = await storage.replica.read(
        lambda connection: (lanes.position(connection, outlet_id), levels.of_products(connection, outlet_id, [product.id]))
    )
    level = quantities.parse(known[product.id].on_hand or "0") if product.id in known else 0
    watermark = place.op_watermark if place else None
    operation = Operation(
        op_id=ids.new_id("opc"),
        seen_seq=place.seq if place else 0,
        seen_epoch=place.epoch if place else 0,
        stock_counted=StockCounted(product_id=product.id, counted=quantities.text(request.counted), note=request.note),
    )

    def append(connection: apsw.Connection) -> None:
        reading = storage.clock.reading()
        storage.clock.save(connection)
        operation.clock.CopyFrom(reading.to_message())
        operation.occurred_time.FromMilliseconds(reading.now_ms)
        shown = level + outbox.pending(connection, [product.id], watermark)[product.id]
        operation.stock_counted.expected = quantities.text(shown)
        outbox.append(connection, operation, {product.id: request.counted - shown}, reading.now_ms)

    await storage.store.write(append)
    return await stock.of_product(storage, product.id)
