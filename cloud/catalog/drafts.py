"""What a caller may write into a product. Pure: checks and fills in, touches no database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cloud.platform import checks
from gipos.v1.catalog_pb2 import Product, TaxClass
from kernel import barcodes
from kernel.errors import Violation
from kernel.money import RUPIAH, rupiah

MAX_BARCODES = 20
WRITABLE = (
    "name", "sku", "barcodes", "category", "unit", "price", "cost", "tax_class", "image_url", "active", "external_id",
)  # fmt: skip


def violations(draft: Product, path: str = "") -> Iterator[Violation]:
    """Everything wrong with a draft. The path goes before each field name, for example "product."."""
    yield from checks.text(f"{path}name", draft.name, 200, required=True)
    yield from checks.text(f"{path}sku", draft.sku, 64)
    yield from checks.text(f"{path}category", draft.category, 100)
    yield from checks.text(f"{path}unit", draft.unit, 20)
    yield from checks.text(f"{path}external_id", draft.external_id, 200)
    yield from checks.money(f"{path}price", draft.price, present=draft.HasField("price"), required=True)
    yield from checks.money(f"{path}cost", draft.cost, present=draft.HasField("cost"))
    yield from checks.web_address(f"{path}image_url", draft.image_url)
    if draft.tax_class not in TaxClass.values():
        yield Violation(f"{path}tax_class", "INVALID_ENUM", "tax_class must be non_pkp, ppn, ppn_mewah, pbjt or bebas.")
    if len(draft.barcodes) > MAX_BARCODES:
        yield Violation(f"{path}barcodes", "TOO_MANY", f"A product has at most {MAX_BARCODES} barcodes.")
    for index, code in enumerate(draft.barcodes[:MAX_BARCODES]):
        problem = barcodes.problem(code)
        if problem is not None:
            reason = "INVALID_CHECK_DIGIT" if "check digit" in problem else "INVALID_BARCODE"
            yield Violation(f"{path}barcodes[{index}]", reason, f"barcode {code!r} {problem}.")


def normalised(draft: Product, default_tax_class: TaxClass.ValueType) -> Product:
    """A copy with only what may be written, defaults filled in and barcodes in their normal form."""
    product = Product(
        name=draft.name.strip(),
        sku=draft.sku.strip(),
        barcodes=_distinct(barcodes.normal_form(code) for code in draft.barcodes),
        category=draft.category.strip(),
        unit=draft.unit.strip() or "pcs",
        price=rupiah(draft.price.amount),
        tax_class=draft.tax_class or default_tax_class,
        image_url=draft.image_url,
        active=draft.active if draft.HasField("active") else True,
        external_id=draft.external_id.strip(),
    )
    if draft.HasField("cost"):
        product.cost.CopyFrom(rupiah(draft.cost.amount))
    return product


def overlaid(current: Product, draft: Product, normal: Product) -> Product:
    """The current product with what a draft gives; what it leaves out stays, and its barcodes are added.

    For batches: a table of names and prices must not clear pictures and codes that were entered elsewhere.

    Args:
        current: What is stored.
        draft: As it was sent.
        normal: The same draft with defaults filled in.
    """
    result = Product()
    result.CopyFrom(current)
    for name in WRITABLE:
        if name == "barcodes":
            added = [code for code in normal.barcodes if code not in current.barcodes]
            result.barcodes.extend(added)
        elif is_given(draft, name):
            _take(result, normal, name)
    return result


def is_given(draft: Product, name: str) -> bool:
    """Whether a draft says anything about a field. What has no presence is given when it is not empty."""
    if Product.DESCRIPTOR.fields_by_name[name].has_presence:
        return draft.HasField(name)  # type: ignore[arg-type]  # callers name fields that there are
    return bool(getattr(draft, name))


def merged(current: Product, draft: Product, paths: Sequence[str]) -> tuple[Product, list[Violation]]:
    """The current product with the masked fields of the draft, and what is wrong with the mask.

    Fields that only the server sets are passed over, as AIP-134 asks, so that a product that was read can be sent back.
    """
    result = Product()
    result.CopyFrom(current)
    wrong = list(checks.mask(paths))
    for path in paths[: checks.MAX_PATHS]:
        top, _, rest = path.partition(".")
        if path == "*":
            for name in WRITABLE:
                _take(result, draft, name)
        elif top in WRITABLE and not rest:
            _take(result, draft, top)
        elif top in {"price", "cost"} and rest in {"amount", "currency"}:
            # What the mask does not name stays: {"price": {"currency": "IDR"}} must not make a product free.
            setattr(getattr(result, top), rest, getattr(getattr(draft, top), rest))
        elif top not in Product.DESCRIPTOR.fields_by_name or rest:
            wrong.append(Violation("update_mask", "UNKNOWN_FIELD", f"There is no field {path!r} to update."))
    for amount in (result.price, result.cost):
        if amount.currency == "" and amount.amount:
            amount.currency = RUPIAH
    return result, wrong


def _take(result: Product, draft: Product, name: str) -> None:
    result.ClearField(name)  # type: ignore[arg-type]  # one of WRITABLE, all of them fields
    field = Product.DESCRIPTOR.fields_by_name[name]
    if field.is_repeated:
        getattr(result, name).extend(getattr(draft, name))
    elif field.message_type is not None:
        if draft.HasField(name):  # type: ignore[arg-type]  # as above
            getattr(result, name).CopyFrom(getattr(draft, name))
    elif not field.has_presence or draft.HasField(name):  # type: ignore[arg-type]  # as above
        setattr(result, name, getattr(draft, name))


def _distinct(codes: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(codes))
