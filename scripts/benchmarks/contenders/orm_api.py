"""The same two writes and two reads as a careful user of FastAPI and the SQLAlchemy ORM would write them, on the same tables.

It runs in an environment of its own (`requirements.lock` beside it) and imports nothing of ours. It does what the platform
promises: key checked, one transaction, stock, movements, gap-free events, idempotency row. It leaves out what only the platform
has: limits, quotas, audit, webhook deliveries, row-level security.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Response
from orm_tables import ApiKey, Event, IdempotencyKey, Level, LogHead, Movement, Outlet, Product, ProductBarcode, SaleRow
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

engine = create_async_engine(os.environ["BENCH_DATABASE_URL"], pool_size=16, max_overflow=0)
sessions = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI()


class Money(BaseModel):
    """An amount."""

    amount: int = Field(ge=0)
    currency: str = "IDR"


class ProductIn(BaseModel):
    """What a caller sends."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=200)
    sku: str = Field(default="", max_length=64)
    barcodes: list[str] = Field(default_factory=list, max_length=20)
    category: str = Field(default="", max_length=100)
    unit: str = "pcs"
    price: Money
    cost: Money | None = None


class ProductOut(BaseModel):
    """What a caller gets."""

    id: str
    name: str
    sku: str
    barcodes: list[str]
    category: str
    unit: str
    price: Money
    cost: Money | None
    tax_class: int
    image_url: str
    active: bool
    external_id: str
    etag: str
    create_time: datetime
    update_time: datetime
    delete_time: datetime | None


class Page(BaseModel):
    """A page."""

    products: list[ProductOut]
    next_page_token: str
    has_more: bool


class LineIn(BaseModel):
    """A line of a sale."""

    product_id: str
    quantity: Decimal = Field(gt=0)


class TenderIn(BaseModel):
    """A payment."""

    method: str
    amount: Money


class SaleIn(BaseModel):
    """What a caller sends."""

    model_config = ConfigDict(extra="forbid")
    outlet_id: str
    lines: list[LineIn] = Field(min_length=1, max_length=500)
    tenders: list[TenderIn] = Field(default_factory=list)


class LineOut(BaseModel):
    """A line as it was sold."""

    id: str
    product_id: str
    name: str
    quantity: Decimal
    unit_price: Money
    total: Money


class SaleOut(BaseModel):
    """What a caller gets."""

    id: str
    outlet_id: str
    status: str
    business_date: str
    lines: list[LineOut]
    tenders: list[TenderIn]
    total: Money
    paid_total: Money
    change: Money
    create_time: datetime


async def session() -> AsyncIterator[AsyncSession]:
    """One session per request."""
    async with sessions() as opened:
        yield opened


Session = Annotated[AsyncSession, Depends(session)]


async def tenant(db: Session, authorization: Annotated[str, Header()] = "") -> str:
    """The merchant behind the key."""
    key = authorization.removeprefix("Bearer ")
    query = select(ApiKey).where(ApiKey.fingerprint == hashlib.sha256(key.encode()).digest(), ApiKey.revoked_at.is_(None))
    found = (await db.execute(query)).scalar_one_or_none()
    if found is None:
        raise HTTPException(401, "The key is unknown.")
    return found.tenant_id


Tenant = Annotated[str, Depends(tenant)]
Key = Annotated[str, Header(alias="Idempotency-Key")]


def new_id(prefix: str) -> str:
    """A time-ordered id."""
    return f"{prefix}_{int(time.time() * 1000):012x}{secrets.token_hex(7)}"


def shown(row: Product) -> ProductOut:
    """A product as it is answered."""
    return ProductOut(
        id=row.id,
        name=row.name,
        sku=row.sku,
        barcodes=row.barcodes,
        category=row.category,
        unit=row.unit,
        price=Money(amount=row.price),
        cost=Money(amount=row.cost) if row.cost is not None else None,
        tax_class=row.tax_class,
        image_url=row.image_url,
        active=row.active,
        external_id=row.external_id,
        etag=str(row.version),
        create_time=row.created_at,
        update_time=row.updated_at,
        delete_time=row.deleted_at,
    )


async def publish(db: AsyncSession, tenant_id: str, lane: str, events: list[tuple[str, str, bytes]], now: datetime) -> None:
    """Numbers and stores events, the counter locked last."""
    query = select(LogHead).where(LogHead.tenant_id == tenant_id, LogHead.lane == lane).with_for_update()
    head = (await db.execute(query)).scalar_one()
    for kind, subject_id, body in events:
        head.last_seq += 1
        outlet = "" if lane == "tenant" else lane
        db.add(
            Event(
                tenant_id=tenant_id, lane=lane, seq=head.last_seq, id=new_id("evt"), type=kind, subject_id=subject_id, version=1,
                outlet_id=outlet, body=body, occurred_at=now,
            )
        )  # fmt: skip


async def answered(db: AsyncSession, tenant_id: str, method: str, key: str, fingerprint: bytes) -> IdempotencyKey | None:
    """The earlier answer, if this key was used before."""
    row = await db.get(IdempotencyKey, (tenant_id, method, key))
    if row is not None and row.fingerprint != fingerprint:
        raise HTTPException(422, "This key was used for another request.")
    return row


@app.get("/api/v1/products/{product_id}")
async def read_product(product_id: str, db: Session, tenant_id: Tenant) -> ProductOut:
    """One product."""
    row = await db.get(Product, (tenant_id, product_id))
    if row is None:
        raise HTTPException(404, "There is no such product.")
    return shown(row)


@app.get("/api/v1/products")
async def list_products(db: Session, tenant_id: Tenant, page_size: int = 50, page_token: str = "") -> Page:
    """A page of products."""
    query = select(Product).where(Product.tenant_id == tenant_id, Product.deleted_at.is_(None)).order_by(Product.id.desc())
    if page_token:
        query = query.where(Product.id < page_token)
    rows = (await db.execute(query.limit(page_size + 1))).scalars().all()
    more = len(rows) > page_size
    return Page(
        products=[shown(row) for row in rows[:page_size]], next_page_token=rows[page_size - 1].id if more else "", has_more=more
    )


@app.post("/api/v1/products", status_code=201)
async def create_product(draft: ProductIn, db: Session, tenant_id: Tenant, key: Key = "") -> Response:
    """Adds a product."""
    fingerprint = hashlib.sha256(draft.model_dump_json().encode()).digest()
    earlier = await answered(db, tenant_id, "create_product", key, fingerprint) if key else None
    if earlier is not None:
        return Response(earlier.answer, 201, media_type="application/json")
    now = datetime.now(UTC)
    row = Product(
        tenant_id=tenant_id, id=new_id("prd"), name=draft.name, sku=draft.sku, barcodes=draft.barcodes, category=draft.category,
        unit=draft.unit, price=draft.price.amount, cost=draft.cost.amount if draft.cost else None, tax_class=2, image_url="",
        active=True, external_id="", version=1, created_at=now, updated_at=now,
    )  # fmt: skip
    db.add(row)
    db.add_all(ProductBarcode(tenant_id=tenant_id, code=code, product_id=row.id) for code in draft.barcodes)
    body = shown(row).model_dump_json().encode()
    if key:
        db.add(IdempotencyKey(tenant_id=tenant_id, method="create_product", key=key, fingerprint=fingerprint, answer=body))
    await db.flush()
    await publish(db, tenant_id, "tenant", [("product.created", row.id, body)], now)
    await db.commit()
    return Response(body, 201, media_type="application/json")


@app.post("/api/v1/sales", status_code=201)
async def create_sale(draft: SaleIn, db: Session, tenant_id: Tenant, key: Key = "") -> Response:
    """Records a sale."""
    fingerprint = hashlib.sha256(draft.model_dump_json().encode()).digest()
    earlier = await answered(db, tenant_id, "create_sale", key, fingerprint) if key else None
    if earlier is not None:
        return Response(earlier.answer, 201, media_type="application/json")
    now = datetime.now(UTC)
    outlet = await db.get(Outlet, (tenant_id, draft.outlet_id))
    if outlet is None:
        raise HTTPException(400, "There is no such outlet.")
    wanted = {line.product_id for line in draft.lines}
    query = select(Product).where(Product.tenant_id == tenant_id, Product.id.in_(wanted), Product.deleted_at.is_(None))
    products = {row.id: row for row in (await db.execute(query)).scalars()}
    if wanted - products.keys():
        raise HTTPException(400, "There is no such product.")
    lines = [
        LineOut(
            id=new_id("sli"),
            product_id=line.product_id,
            name=products[line.product_id].name,
            quantity=line.quantity,
            unit_price=Money(amount=products[line.product_id].price),
            total=Money(amount=int(products[line.product_id].price * line.quantity)),
        )
        for line in draft.lines
    ]
    total = sum(line.total.amount for line in lines)
    paid = sum(tender.amount.amount for tender in draft.tenders) or total
    sale = SaleOut(
        id=new_id("sal"), outlet_id=outlet.id, status="completed", business_date=now.date().isoformat(), lines=lines,
        tenders=draft.tenders, total=Money(amount=total), paid_total=Money(amount=paid), change=Money(amount=paid - total),
        create_time=now,
    )  # fmt: skip
    body = sale.model_dump_json().encode()
    db.add(
        SaleRow(
            tenant_id=tenant_id, id=sale.id, number="", outlet_id=outlet.id, till_id="", channel="api", customer_id="", status=1,
            business_date=now.date(), total=total, external_id="", version=1, body=body, sold_at=now, created_at=now,
        )
    )  # fmt: skip
    events = [("sale.created", sale.id, body), ("sale.completed", sale.id, body)]
    for line in sorted(lines, key=lambda item: item.product_id):
        thousandths = int(line.quantity * 1000)
        level_query = select(Level).where(
            Level.tenant_id == tenant_id, Level.outlet_id == outlet.id, Level.product_id == line.product_id
        )
        level = (await db.execute(level_query.with_for_update())).scalar_one_or_none()
        if level is None:
            level = Level(
                tenant_id=tenant_id,
                outlet_id=outlet.id,
                product_id=line.product_id,
                on_hand=0,
                reserved=0,
                version=0,
                updated_at=now,
            )
            db.add(level)
        level.on_hand -= thousandths
        level.version += 1
        level.updated_at = now
        db.add(
            Movement(
                tenant_id=tenant_id, id=new_id("mov"), outlet_id=outlet.id, product_id=line.product_id, quantity=-thousandths,
                on_hand_after=level.on_hand, reason="sale", sale_id=sale.id, note="", created_at=now,
            )
        )  # fmt: skip
        events.append(("inventory.updated", line.product_id, f'{{"on_hand":{level.on_hand}}}'.encode()))
    if key:
        db.add(IdempotencyKey(tenant_id=tenant_id, method="create_sale", key=key, fingerprint=fingerprint, answer=body))
    await db.flush()
    await publish(db, tenant_id, outlet.id, events, now)
    await db.commit()
    return Response(body, 201, media_type="application/json")
