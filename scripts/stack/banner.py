"""What a person reads when everything runs: addresses, the key, three things to try. Text only."""

from __future__ import annotations

import json
import shlex
import shutil
from typing import Any

from scripts.stack.arguments import ROOT, Layout


def healthy(layout: Layout, state: dict[str, Any], *, is_watched: bool = True) -> str:
    """The words after a start. `state` is what `up.json` holds; `is_watched` says whether the console follows below."""
    gateway, key = state["gateway_url"], state["api_key"]
    names = {outlet["id"]: outlet["name"] for outlet in state["outlets"]}
    rows = enumerate(state["tills"], 1)
    tills = [f"  till {number}         {till['url']}  {names[till['outlet_id']]}" for number, till in rows]
    first = state["tills"][0]
    products = f"{gateway}/api/v1/products"
    product = {"name": "Kopi Susu Gula Aren", "sku": "KSGA-1", "price": {"amount": 18000, "currency": "IDR"}}
    data = "" if layout.data == ROOT / "var" else f" --data {shlex.quote(str(layout.data))}"
    if is_watched:
        end = f"What happens appears here. Ctrl-C (or scripts/down{data}) stops everything."
    else:
        end = f"It runs in the background, its console in {layout.logs / 'supervisor.log'}. scripts/down{data} stops it."
    return "\n".join(
        [
            "",
            "Everything runs.",
            "",
            f"  documentation  {gateway}/docs",
            f"  dashboard      {gateway}/dashboard",
            f"  REST           {gateway}/api/v1",
            f"  gRPC           {state['grpc_address']}",
            *tills,
            f"  pair a tablet  {state['enrol_address']}  (docs/guides/pair-a-till.md)",
            f"  webhooks       {state['webhook_receiver_url']}",
            f"  test API key   {key}",
            f"  for programs   {layout.up}",
            "",
            "Three things to try",
            "  1. See the shop's products:",
            f"     {_call(f'{products}?page_size=3', key)}",
            "  2. Create a product; both tills of the outlet can sell it at once:",
            f"     {_call(products, key, product)}",
            "  3. Ask a till how it is doing, and see where its printer leaves receipts:",
            f"     {_call(first['url'] + '/status')}; ls {shlex.quote(first['receipts_dir'])}",
            f"  The whole story of one sale, step by step: scripts/demo{data}",
            "",
            end,
            "",
        ]
    )


def _call(url: str, key: str = "", body: dict[str, Any] | None = None) -> str:
    """A command that works as printed, also on a machine without curl."""
    headers = ({"Authorization": f"Bearer {key}"} if key else {}) | ({"Content-Type": "application/json"} if body else {})
    data = json.dumps(body) if body else ""
    if shutil.which("curl"):
        options = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
        return shlex.join(["curl", "-s", url, *options, *(["-d", data] if data else [])])
    request = f"{url!r}, {data.encode() if data else None!r}, {headers!r}"
    return shlex.join(
        ["python3", "-c", f"import urllib.request as r; print(r.urlopen(r.Request({request})).read().decode())"],
    )


def already_runs(layout: Layout, pid: int | None) -> str:
    """The words for a second start on the same data."""
    try:
        state = json.loads(layout.up.read_text("utf-8"))
        where = f"REST at {state['gateway_url']}, documentation at {state['gateway_url']}/docs, gRPC at {state['grpc_address']}"
    except (OSError, ValueError, KeyError):
        where = "it is still starting"
    return (
        f"It already runs on {layout.data} (supervisor: process {pid}; {where}). Stop it with scripts/down, or start another one "
        "with --data DIR --port-base N."
    )
