"""Text in columns of a fixed width. Long words break, amounts never do."""

from __future__ import annotations


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most width characters, broken between words where that is possible. At least one line."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        rest = word
        if line and len(line) + 1 + len(rest) <= width:
            line = f"{line} {rest}"
            continue
        if line:
            lines.append(line)
        while len(rest) > width:
            lines.append(rest[:width])
            rest = rest[width:]
        line = rest
    return [*lines, line] if line or not lines else lines


def pair(left: str, right: str, width: int, indent: str = "") -> list[str]:
    """A label at the left edge and an amount at the right one. A label that is too long wraps above its amount."""
    lines = [indent + line for line in wrap(left, width - len(indent))]
    if len(lines[-1]) + 1 + len(right) > width:
        return [*lines, right.rjust(width)]
    return [*lines[:-1], lines[-1] + right.rjust(width - len(lines[-1]))]


def field(label: str, value: str, width: int, label_width: int) -> list[str]:
    """A label in a column of its own and a value that wraps beside it."""
    first, *others = wrap(value, width - label_width)
    return [label.ljust(label_width) + first, *(" " * label_width + line for line in others)]
