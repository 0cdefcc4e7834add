"""Hands items from one thread to another. One item in, the same or a newer item out, never an older one.

A mailbox is small on purpose: with room for one item, what waits for a slow reader is at most one item old.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class MailboxClosed(Exception):
    """The mailbox was closed; nothing more goes in, or nothing more is left to take out."""


class Mailbox(Generic[T]):
    """A slot between one or more writers and one reader; first in, first out.

    `put` never waits: when the mailbox is full, the oldest item makes room (newest wins; for live sources).
    `put_wait` waits for room and loses nothing (for files). Closing wakes everybody who waits.
    """

    def __init__(self, capacity: int = 1) -> None:
        if capacity < 1:
            raise ValueError(f"a mailbox holds at least one item, got {capacity}")
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._dropped = 0
        self._most = 0

    def __len__(self) -> int:
        with self._changed:
            return len(self._items)

    @property
    def dropped(self) -> int:
        """How many items went unread: pushed out by newer ones or discarded when the mailbox closed."""
        with self._changed:
            return self._dropped

    @property
    def closed(self) -> bool:
        """Whether nothing more goes in."""
        with self._changed:
            return self._closed

    @property
    def most(self) -> int:
        """The largest number of items that ever waited."""
        with self._changed:
            return self._most

    def put(self, item: T) -> T | None:
        """Leave an item without waiting; return the item that had to make room, if any. Raises MailboxClosed."""
        with self._changed:
            if self._closed:
                raise MailboxClosed
            lost = self._items.popleft() if len(self._items) == self._capacity else None
            self._dropped += lost is not None
            self._add(item)
            return lost

    def put_wait(self, item: T, timeout_s: float | None = None) -> None:
        """Leave an item as soon as there is room. Raises MailboxClosed, or TimeoutError after `timeout_s`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed or len(self._items) < self._capacity, timeout_s):
                raise TimeoutError(f"the mailbox stayed full for {timeout_s} s")
            if self._closed:
                raise MailboxClosed
            self._add(item)

    def get(self, timeout_s: float | None = None) -> T:
        """Take the oldest item, or wait for one. Raises MailboxClosed when closed and empty, TimeoutError in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed or self._items, timeout_s):
                raise TimeoutError(f"the mailbox stayed empty for {timeout_s} s")
            if not self._items:
                raise MailboxClosed
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self, *, discard: bool = False) -> None:
        """Take nothing more; what waits can still be read unless `discard`. Safe to call twice and from any thread."""
        with self._changed:
            self._closed = True
            if discard:
                self._dropped += len(self._items)
                self._items.clear()
            self._changed.notify_all()

    def _add(self, item: T) -> None:
        self._items.append(item)
        self._most = max(self._most, len(self._items))
        self._changed.notify_all()
