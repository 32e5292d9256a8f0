"""Both implementations that there are conform, and the runner sees where one does not."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from conformance import run

FOLDER = Path(__file__).parent
ASKED = ["--only", "w*"]
"""One vector, which is refused with a WrongKeyError."""


def command(*arguments: str) -> str:
    return shlex.join([sys.executable, *arguments])


@pytest.mark.parametrize("implementation", ["sdk", "second"])
def test_conforms(
    implementation: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))
    assert run.main(["--adapter", command(str(FOLDER / f"{implementation}.py"))]) == 0
    rows = capsys.readouterr().out.splitlines()
    count = len(run.load()["vectors"])
    assert rows[-1] == f"{count} agrees, 0 differs, 0 unsupported"
    assert len(rows) == count + 1


@pytest.mark.parametrize(
    ("answer", "row"),
    [
        ('print(\'{"outcome": "WrongKeyError"}\', flush=True)', "1 agrees"),
        ('print(\'{"outcome": "unsupported"}\', flush=True)', "1 unsupported"),
        ('print(\'{"outcome": "ok", "message": "why not"}\', flush=True)', "ok why not"),
        ("print('{\"outcome\": 1}', flush=True)", "no outcome"),
        ("print('[]', flush=True)", "no outcome"),
        ("print('Traceback', flush=True)", "did not answer with JSON"),
        ("raise SystemExit", "the adapter died"),
        ("time.sleep(60)", "no answer in 0.5 s"),
    ],
)
def test_sees_what_an_adapter_answers(
    answer: str, row: str, capsys: pytest.CaptureFixture[str]
) -> None:
    script = f"import sys, time\nfor line in sys.stdin: {answer}"
    agrees = row == "1 agrees"
    timeout = "0.5" if "sleep" in answer else "30"
    asked = ["--adapter", command("-c", script), "--timeout", timeout, *ASKED]
    assert run.main(asked) == (0 if agrees else 1)
    assert row in capsys.readouterr().out


def test_takes_the_standard_library_only() -> None:
    alone = [sys.executable, "-I", "-S", str(FOLDER / "run.py"), "--help"]
    assert "--adapter" in subprocess.check_output(alone, text=True)


def test_starts_an_adapter_again_that_died(capsys: pytest.CaptureFixture[str]) -> None:
    script = 'import sys; next(sys.stdin); print(\'{"outcome": "UnlockError"}\')'
    assert run.main(["--adapter", command("-c", script), "--only", "names_n*"]) == 1
    assert "differs" in capsys.readouterr().out
    script = "import sys; next(sys.stdin); sys.exit(1)"
    assert run.main(["--adapter", command("-c", script), "--only", "names_n*"]) == 1
    assert "0 agrees, 2 differs" in capsys.readouterr().out


def test_compares_what_comes_with_the_outcome() -> None:
    vector = {"expect": "ok", "output": {"original_sha256": "00", "in_grace": True, "layers": 2}}
    answer = {"outcome": "ok", "original_sha256": "00", "in_grace": True}
    assert run.difference(vector, answer) == ""
    assert run.difference(vector, {**answer, "more": 1, "layers": 2}) == ""
    assert run.difference(vector, {**answer, "layers": 1}) == "layers: 1"
    assert run.difference(vector, {**answer, "in_grace": 1}) == "in_grace: 1"
    assert run.difference(vector, {"outcome": "ok", "in_grace": True}) == "no original_sha256"


def test_page_names_all_that_is_given_and_answered() -> None:
    page = (FOLDER.parents[1] / "docs" / "conformance.md").read_text(encoding="utf-8")
    for vector in run.load()["vectors"]:
        for name in (vector["operation"], *vector["input"], *vector["output"], *vector):
            assert f"`{name}`" in page, name
