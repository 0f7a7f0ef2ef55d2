"""Batches: up to 500 items in one request, each decided on its own, and each with its own result in the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from kernel.errors import Invalid, Violation

R = TypeVar("R", bound=Message)

MAX_ITEMS = 500


def check_size(field: str, items: Sequence[Any]) -> None:
    """Refuses a batch of nothing, and one too large for one transaction.

    Raises:
        Invalid: not 1 to 500 items.
    """
    if not 1 <= len(items) <= MAX_ITEMS:
        message = f"{field} must hold 1 to {MAX_ITEMS} items; these are {len(items)}."
        raise Invalid([Violation(field, "REQUIRED" if not items else "TOO_MANY", message)])


def told(response: R, field: str, good: Mapping[int, Message], problems: Mapping[int, Sequence[Violation]]) -> R:
    """The answer filled in: for each item, by its place, what became of it in this field of its result, or what is wrong."""
    answer: Any = response
    answer.succeeded, answer.failed = len(good), len(problems)
    for index in range(len(good) + len(problems)):
        result = answer.results.add()
        if index in good:
            getattr(result, field).CopyFrom(good[index])
        refuse(result, problems.get(index, ()))
    return response


def refuse(result: Any, wrong: Iterable[Violation]) -> None:
    """Says in an item's result what is wrong with it."""
    for violation in wrong:
        result.errors.add(field=violation.field, reason=violation.reason, message=violation.message)
