"""What a key or an application may be allowed to do, and which of it a method needs: by the contract's own names."""

from __future__ import annotations

from typing import Final

READS: Final = ("Get", "List", "Watch", "Find", "Export", "Verify")
"""How the names of methods begin that change nothing."""

SCOPES: Final = {
    "products:read": "Read products.",
    "products:write": "Create, change and archive products.",
    "inventory:read": "Read stock levels, movements and reservations.",
    "inventory:write": "Count, adjust and reserve stock.",
    "customers:read": "Read customers, with names, phone numbers and addresses masked.",
    "customers:write": "Create, change and erase customers.",
    "customers:pii": "See the personal data of customers unmasked. Every look is audited.",
    "sales:read": "Read sales.",
    "sales:write": "Record and refund sales.",
    "events:read": "Read and watch events.",
    "events:write": "Kept for later: no call needs it yet.",
    "webhooks:read": "Read webhooks and their deliveries.",
    "webhooks:write": "Add and remove webhooks.",
    "outlets:read": "Read outlets and tills.",
    "devices:read": "See how tills are connected, what they could not upload, and their offline policy.",
    "devices:write": "Pair tills, lock them out, command them, and settle what they could not upload.",
    "outlets:write": "Kept for later: no call needs it yet.",
    "api_keys:read": "Read API keys and OAuth clients, without their secrets.",
    "api_keys:write": "Make, change, rotate and revoke API keys and OAuth clients.",
    "usage:read": "Read how much of the plan is used.",
    "audit:read": "Read, export and verify the audit log.",
}

_RESOURCES: Final = {
    "AccountService": "outlets",
    "ProductService": "products",
    "InventoryService": "inventory",
    "ReservationService": "inventory",
    "CustomerService": "customers",
    "SaleService": "sales",
    "WebhookService": "webhooks",
    "EventService": "events",
    "ApiKeyService": "api_keys",
    "OAuthClientService": "api_keys",
    "OAuthService": "api_keys",
    "UsageService": "usage",
    "AuditService": "audit",
    "DeviceService": "devices",
    "DashboardService": "dashboards",
}
_NONE: Final = {
    "/gipos.v1.AccountService/GetCaller",
    # What a dashboard shows is decided topic by topic.
    "/gipos.v1.DashboardService/CreateDashboardTicket",
    "/gipos.v1.DashboardService/WatchTopics",
}


def scope_of(method: str) -> str:
    """The scope a public method (`/package.Service/Method`) needs; empty when being known is enough.

    Raises:
        KeyError: the service is not one of ours.
    """
    if method in _NONE:
        return ""
    service, name = method.rpartition(".")[2].split("/")
    return f"{_RESOURCES[service]}:{'read' if name.startswith(READS) else 'write'}"
