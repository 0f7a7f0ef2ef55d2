"""The table in words, as docs/reference/differences-from-envoy.md has it. Run as a module it writes that page."""

from __future__ import annotations

from pathlib import Path

from .differences import SECTIONS

_HEAD = """# Where we differ from Envoy's transcoder

The gateway and Envoy's `grpc_json_transcoder` read the same rules (`google.api.http`) from the same descriptor file. A test sends
thousands of generated requests to both, before the same service, and compares what the service got and what was answered. What
comes out differently is listed here; a difference that is not listed fails the test, and so does a line that is no longer true.
Envoy is 1.40.0 with every option that brings it nearer to us: `url_unescape_spec: ALL_CHARACTERS_EXCEPT_SLASH`,
`query_param_unescape_plus`, `convert_grpc_status`, unknown methods, parameters and collisions rejected, defaults printed.

"Right" says whose way the specifications ask for, or "either" where they leave it open. This page is printed from
`tests/gateway_rest/differential/differences.py`.

## Ways of writing

Taken out before answers are compared, because they hold for every answer (see `kernel/protojson`):

| | Envoy | we |
|---|---|---|
| 64-bit integers | text | numbers; texts are read as well |
| enum values | `COLOR_DARK_BLUE` | `dark_blue`; the full name is read as well |
| field masks | camelCase | snake_case; both are read |
| errors | `google.rpc.Status`, or plain text for what Envoy itself refuses | `application/problem+json`, always |
| streams | one JSON array | a line for each element, or events, or an array, as `Accept` asks |

## What Envoy cannot be given

`response_body` (Envoy does not start with it, but for `HttpBody`), the query parameter `fields`, WebSocket, and a `body` rule for
a number: Envoy's JSON reader waits for more digits until the route's timeout, and answers 504.
"""


def page() -> str:
    """The page."""
    parts = [_HEAD]
    for title, section in SECTIONS.items():
        rows = [
            f"| {_cell(item.subject)} | {_cell(item.envoy)} | {_cell(item.ours)} | {item.right} | {_cell(item.why)} |"
            for item in section
        ]
        parts.append(f"\n## {title}\n\n| | Envoy | we | right | why |\n|---|---|---|---|---|\n" + "\n".join(rows) + "\n")
    return "".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    target = Path(__file__).resolve().parents[3] / "docs" / "reference" / "differences-from-envoy.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(), "utf-8")
