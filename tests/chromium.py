"""A real browser for tests: Chromium of the system, or what `make test` unpacked."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

__all__ = ["CHROMIUM", "WHY_NOT", "Browser", "BrowserContext", "Page", "started"]

_UNPACKED = Path(__file__).parents[1] / ".venv" / "chromium"
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_INSTALLED = next(filter(None, map(shutil.which, _NAMES)), "")
_OURS = _UNPACKED / "usr/lib/chromium/chromium-headless-shell"
CHROMIUM = str(_OURS) if _OURS.exists() else _INSTALLED
WHY_NOT = "no Chromium: neither the system has it, nor could make test get it from Debian"

_FONTS = """<?xml version="1.0"?>
<fontconfig>
  <dir>/usr/share/fonts</dir>
  <dir>{unpacked}/usr/share/fonts</dir>
  <cachedir>{folder}</cachedir>
  <alias binding="same"><family>system-ui</family><prefer><family>Inter</family></prefer></alias>
  <alias binding="same">
    <family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer>
  </alias>
</fontconfig>
"""
"""Stands for the font of people's systems."""


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Browser]:
    """Start the browser; a folder is for what it needs meanwhile."""
    fonts = folder / "fonts.conf"
    fonts.write_text(_FONTS.format(unpacked=_UNPACKED, folder=folder))
    libraries = [path for path in sorted(_UNPACKED.glob("usr/lib/*-linux-gnu*")) if path.is_dir()]
    places = [*libraries, *(path / "pulseaudio" for path in libraries)]
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, places)),
        "FONTCONFIG_FILE": str(fonts),
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, env=environment)
        try:
            yield browser
        finally:
            browser.close()
