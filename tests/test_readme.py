"""The README says what the program does: its examples run, its tables are those of `--help`."""

import re
import shutil
from pathlib import Path

import pytest

import nnguard
from nnguard._cli.commands import NNGUARD
from nnguard._cli.failures import EXIT_CODES
from nnguard.errors import ActivationReason, PolicyReason
from pages import run_page

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    digits = ROOT / "examples" / "digits"
    nnguard.decompress_to_file(digits / "digits.nnc", "model.safetensors")
    shutil.copy(digits / "weaker.nnc", "weaker.nnc")
    run_page(ROOT / "README.md", tmp_path)
    assert Path("full.nnc").read_bytes() == Path("release.nnc").read_bytes()
    assert Path("acme-full.nnc").read_bytes() == Path("acme.nnc").read_bytes()


def test_commands_are_those_of_help() -> None:
    listed = re.findall(r"^\| `nnguard (\w+)` \| (.+?)\. \|$", README, flags=re.MULTILINE)
    shown = [(name, NNGUARD.summary_of(name).lower()) for name in NNGUARD.commands]
    assert sorted((name, text.lower()) for name, text in listed) == sorted(shown)


def test_exit_codes_are_those_of_help() -> None:
    page = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (\d+) \| (.+?) \|$", page, flags=re.MULTILINE)
    assert {int(code): meaning for code, meaning in listed} == EXIT_CODES


def test_troubleshooting_has_every_exit_code_and_reason() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    headed = re.findall(r"^## .+ \((\d+)\)$", page, flags=re.MULTILINE)
    assert [*map(int, headed)] == [code for code in EXIT_CODES if code]
    assert _reasons(page, 18) == {reason.value for reason in PolicyReason}
    assert _reasons(page, 19) == {reason.value for reason in ActivationReason}


def _reasons(page: str, code: int) -> set[str]:
    """Return the reasons in the table of an exit code."""
    section = page.partition(f" ({code})\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([a-z-]+(?:, [a-z-]+)*) \|", section, flags=re.MULTILINE)
    return {reason for row in rows for reason in row.split(", ")} - {"reason"}


def test_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_package_index_gets_no_links_into_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = pytest.importorskip("scikit_build_core.build")
    monkeypatch.chdir(ROOT)
    folder = build.prepare_metadata_for_build_wheel(str(tmp_path))
    description = (tmp_path / folder / "METADATA").read_text(encoding="utf-8")
    links = re.findall(r"\]\((.*?)\)", description)
    assert links
    assert [link for link in links if not link.startswith("https://")] == []
    assert "the format (docs/SPEC.md)" in description
    assert "docs/pictures" not in description
