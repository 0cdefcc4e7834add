"""What every test can ask for: the real clips, a GPU, patience. Marks in, skips with a reason out."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


# Whoever starts the tests in the background may have them ignore Ctrl-C, and they would pass that on to what they
# start; the tests press it themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out `slow` tests unless they are asked for, and `needs_cuda` tests where there is no GPU."""
    if not config.getoption("--slow") and "slow" not in config.getoption("-m"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes minutes; run with --slow"))
    cuda_items = [item for item in items if item.get_closest_marker("needs_cuda")]
    # With REQUIRE_CUDA=1 they run and fail: a GPU machine without a working GPU must not look green.
    if cuda_items and os.environ.get("REQUIRE_CUDA") != "1" and not cuda_works():
        for item in cuda_items:
            item.add_marker(pytest.mark.skip(reason="no CUDA GPU; REQUIRE_CUDA=1 makes this a failure"))


@pytest.fixture(scope="session", autouse=True)
def nobodys_own_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test, and nothing that a test starts, sees or changes the user's own settings and records."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        patch.setenv("LC_ALL", "C.UTF-8")  # the AI mark speaks the user's language
        yield


def cuda_works() -> bool:
    """Whether torch is installed and sees a GPU."""
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with data that is not part of the project: ../shared/data, or where LIVESWAP_DATA says."""
    folder = Path(os.environ.get("LIVESWAP_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no data folder {folder}; set LIVESWAP_DATA")
    return folder


@pytest.fixture(scope="session")
def real_clips(data_dir: Path) -> Path:
    """The folder with real video clips; they are measured, never copied and never shown."""
    clips = data_dir / "clips"
    if not clips.is_dir():
        pytest.skip(f"no clips in {data_dir}")
    return clips
