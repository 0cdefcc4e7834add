"""The batch that is found fits, the next one does not, and both were measured."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from realtime.errors import TrainingError
from tests.tiny_run import TINY
from training.batch_finder import AS_FAST, Found, find_batch
from training.config import TrainConfig

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="this system does not tell how much memory is used")

SMALL = replace(TINY, model=replace(TINY.model, resolution=64))
"""About 2 MB of memory for each face of each person."""
MOST = 64


@pytest.fixture(scope="module")
def unlimited() -> Found:
    """Everything up to MOST fits."""
    return find_batch(SMALL, limit_bytes=1 << 40, most=MOST, patience_s=1e6)


def test_larger_batches_take_more_memory_and_all_of_them_are_told(unlimited: Found) -> None:
    peaks = [probe.peak_bytes or 0 for probe in unlimited.probes]
    assert [probe.batch for probe in unlimited.probes] == [1, 2, 4, 8, 16, 32, 64]
    assert unlimited.limited_by == "most"
    assert peaks[-1] - peaks[-2] > 16 << 20
    assert max(peaks) == peaks[-1]
    assert (unlimited.batch, unlimited.peak_bytes) == (MOST, peaks[-1])
    assert all(0 < probe.seconds_per_step < 60 for probe in unlimited.probes)


def test_the_fastest_is_the_smallest_that_trains_about_as_many_faces_a_second(unlimited: Found) -> None:
    rates = {probe.batch: probe.samples_per_s for probe in unlimited.probes}
    assert rates[unlimited.fastest] >= AS_FAST * max(rates.values())
    assert all(rate < AS_FAST * max(rates.values()) for batch, rate in rates.items() if batch < unlimited.fastest)


def test_the_largest_batch_below_a_limit_is_found_between_two_doublings(unlimited: Found) -> None:
    peaks = {probe.batch: probe.peak_bytes or 0 for probe in unlimited.probes}
    limit = (peaks[32] + peaks[64]) // 2
    found = find_batch(SMALL, limit_bytes=limit, most=MOST, patience_s=1e6)
    assert found.limited_by == "memory"
    assert found.limit_bytes == limit
    assert 32 <= found.batch < 64
    assert found.peak_bytes <= limit
    too_large = [probe for probe in found.probes if probe.batch > found.batch]
    assert all((probe.peak_bytes or limit + 1) > limit for probe in too_large)
    assert too_large[0].batch - found.batch <= max(1, found.batch // 8)


def test_a_batch_is_a_multiple_of_what_is_computed_in_turn() -> None:
    found = find_batch(replace(SMALL, batch=6, accumulate=6), limit_bytes=1 << 40, most=13, patience_s=1e6)
    assert [probe.batch for probe in found.probes] == [6, 12]


def test_impatience_ends_the_search_with_what_fitted_by_then() -> None:
    found = find_batch(SMALL, limit_bytes=1 << 40, patience_s=0)
    assert (found.batch, found.limited_by) == (1, "patience")


def test_nothing_fits_into_next_to_nothing_and_that_is_one_sentence() -> None:
    with pytest.raises(TrainingError, match="not even 1 faces of each person fit into 1 MiB of memory; close other"):
        find_batch(SMALL, limit_bytes=1 << 20)


def test_memory_that_cannot_be_had_counts_as_too_large() -> None:
    """The system itself refuses: nobody has the memory for such a model."""
    huge = replace(TINY, model=replace(TINY.model, resolution=1024, code=1 << 14, code_channels=1 << 14))
    with pytest.raises(TrainingError, match="not even 1 faces"):
        find_batch(huge, limit_bytes=1 << 62)


@pytest.mark.parametrize("changes", [{"gan": 0.1}, {"checkpoint_activations": True}, {"optimizer": "schedule-free"}])
def test_everything_that_takes_part_in_a_run_takes_part_in_the_measurement(changes: dict[str, object]) -> None:
    config = TrainConfig.from_dict({**SMALL.to_dict(), **changes})
    assert find_batch(config, limit_bytes=1 << 40, most=2).batch == 2


@pytest.mark.needs_cuda
def test_on_a_gpu_the_allocator_tells_the_memory() -> None:
    found = find_batch(SMALL, most=16)
    assert found.batch == 16
    assert 0 < found.peak_bytes < found.limit_bytes
