# mypy: ignore-errors
"""What an integrator writes against the client that openapi-python-client makes. Run in the generator's own environment."""

import os

from gi_pos_api_client import AuthenticatedClient
from gi_pos_api_client.api.account import list_outlets
from gi_pos_api_client.api.products import create_product, delete_product, list_products, update_product
from gi_pos_api_client.api.sales import create_sale
from gi_pos_api_client.models import (
    MoneyInput,
    Problem,
    Product,
    ProductInput,
    ProductPatch,
    Sale,
    SaleInput,
    SaleLineInput,
    SaleStatus,
    TaxClass,
    TenderInput,
)

client = AuthenticatedClient(base_url=os.environ["GIPOS_URL"], token=os.environ["GIPOS_API_KEY"])

made = []
for name, amount in (("Kopi Tubruk", 8000), ("Teh Tarik", 10000)):
    draft = ProductInput(name=name, price=MoneyInput(amount=amount), tax_class=TaxClass.PPN)
    answer = create_product.sync_detailed(client=client, body=draft, idempotency_key=f"story-{name}")
    assert answer.status_code == 201, answer.content
    assert isinstance(answer.parsed, Product)
    made.append(answer.parsed)
coffee = made[0]

seen, token = [], ""
while True:
    page = list_products.sync(client=client, page_size=1, page_token=token)
    assert page is not None
    seen += [product.name for product in page.products]
    token = page.next_page_token
    if not token:
        break
assert sorted(seen) == ["Kopi Tubruk", "Teh Tarik"], seen

outlet = list_outlets.sync(client=client).outlets[0]
sale = create_sale.sync(
    client=client,
    body=SaleInput(
        outlet_id=outlet.id,
        lines=[SaleLineInput(product_id=coffee.id, quantity="2")],
        tenders=[TenderInput(method="cash", amount=MoneyInput(amount=20000))],
    ),
)
assert isinstance(sale, Sale), sale
assert (sale.change.amount, sale.status) == (4000, SaleStatus.COMPLETED)

stale = update_product.sync(coffee.id, client=client, body=ProductPatch(price=MoneyInput(amount=8500)), if_match='"999"')
assert isinstance(stale, Problem)
assert stale.reason == "VERSION_CONFLICT"

refused = create_product.sync(client=client, body=ProductInput(name="", price=MoneyInput(amount=1)))
assert isinstance(refused, Problem)
assert refused.errors[0].field == "name"

assert delete_product.sync_detailed(coffee.id, client=client).status_code == 204
print("ok")  # noqa: T201 (how the test hears that the end was reached)
