"""A short run of the faults; `make faults` is the long one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import postgresql

RUN = Path(__file__).with_name("run.py")


@pytest.mark.skipif(sys.platform != "linux", reason="the library is for Linux")
@pytest.mark.skipif(shutil.which(os.environ.get("CC", "cc")) is None, reason="no compiler")
def test_nothing_is_lost_when_the_machine_fails() -> None:
    pytest.importorskip("sqlalchemy")
    command = [sys.executable, str(RUN), "--short"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| license issue --force | 3 |" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="processes start with what is loaded")
def test_state_is_right_whenever_a_process_is_killed() -> None:
    command = [sys.executable, str(RUN.with_name("states.py")), "30"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"kills": 30' in done.stdout


@pytest.mark.skipif(postgresql.PROGRAMS is None, reason="no PostgreSQL server is installed")
def test_a_license_server_that_is_killed_loses_nothing() -> None:
    tests = os.pathsep.join(map(str, (RUN.parents[1], RUN.parent)))
    command = [sys.executable, str(RUN.with_name("server.py")), "--kills", "3", "--crashes", "1"]
    environment = os.environ | {"PYTHONPATH": tests}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| kills | 3 |" in done.stdout
    assert "| wrong | 0 |" in done.stdout
