"""What a machine remembers of licenses."""

from __future__ import annotations

import multiprocessing
from datetime import timedelta
from pathlib import Path

import pytest

from nnguard._licensing.state import LicenseState
from nnguard.errors import LicenseError, Refusal
from sales import DAY, START

IDS = [f"{number:032x}" for number in range(20)]


def test_nothing_is_lowered_or_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with LicenseState(path) as state:
        assert (state.newest, state.released) == (None, frozenset())
        state.remember(START)
        state.bury(IDS[0])
        state.remember(START - DAY)
    with LicenseState(path) as state:
        assert state.newest == START
        assert [state.has_released(each) for each in IDS[:2]] == [True, False]
    assert IDS[0] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_state_of_older_versions_is_read(tmp_path: Path) -> None:
    (tmp_path / "state").write_text('{"newest": 1772323200}')
    with LicenseState(tmp_path / "state") as state:
        assert state.newest == START


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"newest": "x"}',
        '{"newest": 1, "released": ["x"]}',
        '{"newest": 1e9}',
        '{"newest": 1, "released": 7}',
        '{"newest": 1, "released": [7]}',
        "[" * 9999,
        "\xff",
        '{"newest": 1, "more": 1}',
        '{"newest": true}',
    ],
)
def test_other_files_are_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state"
    path.write_text(text, encoding="latin-1")
    with (
        pytest.raises(LicenseError, match="is not a license state file") as caught,
        LicenseState(path),
    ):
        pass
    assert caught.value.reason is Refusal.CLOCK_SET_BACK
    assert [each.name for each in tmp_path.iterdir()] == ["state"]


def _bury(path: Path, ids: list[str]) -> None:
    for each in ids:
        with LicenseState(path) as state:
            state.bury(each)
            state.remember(START + timedelta(seconds=int(each, 16)))


def test_processes_lose_nothing_of_each_other(tmp_path: Path) -> None:
    path = tmp_path / "state"
    context = multiprocessing.get_context("fork")
    running = [context.Process(target=_bury, args=(path, IDS[start::4])) for start in range(4)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    with LicenseState(path) as state:
        assert all(map(state.has_released, IDS))
        assert state.newest == START + timedelta(seconds=19)
