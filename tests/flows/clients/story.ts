// What an integrator writes against the generated types. Compiled strictly, then run against a platform.
import createClient from "openapi-fetch";
import type { components, paths } from "./gipos";

type Product = components["schemas"]["Product"];

const gipos = createClient<paths>({
  baseUrl: process.env.GIPOS_URL,
  headers: { Authorization: `Bearer ${process.env.GIPOS_API_KEY}` },
});

function check(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(what);
}

async function* products(): AsyncGenerator<Product> {
  let page_token = "";
  do {
    const { data, error } = await gipos.GET("/api/v1/products", {
      params: { query: { page_size: 1, page_token, order_by: "name" } },
    });
    if (error) throw new Error(error.detail);
    yield* data.products;
    page_token = data.next_page_token;
  } while (page_token);
}

const made: Product[] = [];
for (const [name, amount] of [["Kopi Tubruk", 8000], ["Teh Tarik", 10000]] as const) {
  const { data, error, response } = await gipos.POST("/api/v1/products", {
    params: { header: { "Idempotency-Key": `story-${name}` } },
    body: { name, price: { amount }, tax_class: "ppn" },
  });
  if (error) throw new Error(error.detail);
  check(response.status === 201, "created");
  made.push(data);
}

const seen: string[] = [];
for await (const product of products()) seen.push(product.name);
check(seen.join() === "Kopi Tubruk,Teh Tarik", `pages: ${seen.join()}`);

const [coffee] = made;
check(coffee !== undefined, "the first product");
const outlets = await gipos.GET("/api/v1/outlets");
const outlet_id = outlets.data?.outlets[0]?.id ?? "";
const sale = await gipos.POST("/api/v1/sales", {
  body: { outlet_id, lines: [{ product_id: coffee.id, quantity: "2" }], tenders: [{ method: "cash", amount: { amount: 20000 } }] },
});
check(sale.data?.change?.amount === 4000 && sale.data.status === "completed", "the sale");

const changed = await gipos.PATCH("/api/v1/products/{id}", {
  params: { path: { id: coffee.id }, header: { "If-Match": '"999"' } },
  body: { price: { amount: 8500 } },
});
check(changed.response.status === 412 && changed.error?.reason === "VERSION_CONFLICT", "somebody else was quicker");

const refused = await gipos.POST("/api/v1/products", { body: { name: "", price: { amount: 1 } } });
check(refused.error?.errors[0]?.field === "name", "the violation names its field");

const gone = await gipos.DELETE("/api/v1/products/{id}", { params: { path: { id: coffee.id } } });
check(gone.response.status === 204, "archived");
console.log("ok");
