from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.mailbox import Mailbox, MailboxClosed

PATIENCE_S = 5.0
"""A thread that has not ended after this long hangs: all of them end within milliseconds."""


def test_the_newest_item_wins_and_the_old_one_comes_back_as_lost() -> None:
    mailbox: Mailbox[int] = Mailbox()
    assert mailbox.put(1) is None
    assert mailbox.put(2) == 1
    assert mailbox.get() == 2
    assert (mailbox.dropped, mailbox.most, len(mailbox)) == (1, 1, 0)


def test_an_empty_mailbox_stays_empty_until_the_timeout() -> None:
    with pytest.raises(TimeoutError):
        Mailbox[int]().get(timeout_s=0.01)


def test_a_full_mailbox_stays_full_until_the_timeout() -> None:
    mailbox: Mailbox[int] = Mailbox()
    mailbox.put_wait(1)
    with pytest.raises(TimeoutError):
        mailbox.put_wait(2, timeout_s=0.01)
    assert mailbox.get() == 1


def test_a_closed_mailbox_gives_what_waits_and_takes_nothing() -> None:
    mailbox: Mailbox[int] = Mailbox()
    mailbox.put(1)
    mailbox.close()
    mailbox.close()
    with pytest.raises(MailboxClosed):
        mailbox.put(2)
    with pytest.raises(MailboxClosed):
        mailbox.put_wait(2)
    assert mailbox.get() == 1
    with pytest.raises(MailboxClosed):
        mailbox.get()


def test_closing_can_throw_away_what_waits() -> None:
    mailbox: Mailbox[int] = Mailbox(3)
    mailbox.put(1)
    mailbox.put(2)
    mailbox.close(discard=True)
    with pytest.raises(MailboxClosed):
        mailbox.get()
    assert mailbox.dropped == 2


@pytest.mark.parametrize("waiter", ["get", "put_wait"])
def test_closing_wakes_whoever_waits(waiter: str) -> None:
    mailbox: Mailbox[int] = Mailbox()
    if waiter == "put_wait":
        mailbox.put(0)
    woken = threading.Event()

    def wait() -> None:
        with pytest.raises(MailboxClosed):
            mailbox.get() if waiter == "get" else mailbox.put_wait(1)
        woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.02)
    mailbox.close(discard=True)
    assert woken.wait(PATIENCE_S)
    thread.join(PATIENCE_S)


def test_put_wait_loses_nothing_and_keeps_the_order() -> None:
    mailbox: Mailbox[int] = Mailbox(2)

    def write() -> None:
        for item in range(500):
            mailbox.put_wait(item)
        mailbox.close()

    thread = threading.Thread(target=write)
    thread.start()
    read = [mailbox.get(PATIENCE_S) for _ in range(500)]
    with pytest.raises(MailboxClosed):
        mailbox.get(PATIENCE_S)
    thread.join(PATIENCE_S)
    assert read == list(range(500))
    assert mailbox.dropped == 0


@settings(deadline=None)
@given(st.integers(1, 4), st.lists(st.booleans(), max_size=60))
def test_items_never_come_out_of_order_and_never_more_than_fit_wait(capacity: int, writes: list[bool]) -> None:
    mailbox: Mailbox[int] = Mailbox(capacity)
    read: list[int] = []
    sent = 0
    for write in writes:
        if write:
            mailbox.put(sent)
            sent += 1
        elif len(mailbox):
            read.append(mailbox.get())
    waiting = len(mailbox)
    assert read == sorted(set(read))
    assert mailbox.most <= capacity
    assert len(read) + waiting + mailbox.dropped == sent


def test_a_mailbox_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Mailbox(0)
