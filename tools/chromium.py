"""A headless Chromium for the page's tests: the system's own, or Debian's unpacked in the cache."""

import shutil
import subprocess
from pathlib import Path

from tools import debian
from tools.say import SetupError
from tools.store import Slot

SYSTEM = ("chromium-headless-shell", "chromium", "google-chrome-stable", "google-chrome")
PACKAGES = ("chromium-headless-shell", "fonts-inter", "fonts-dejavu-core")
REMEDY = "Try: apt-get install chromium   (or Google Chrome; only `make test` needs it)"
DURATION = "100 MB from the distribution's mirror, some 20 s"
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir prefix="relative">tree/usr/share/fonts</dir>
  <cachedir prefix="xdg">mayfly-fonts</cachedir>
  <alias><family>system-ui</family><prefer><family>Inter</family></prefer></alias>
  <alias><family>sans-serif</family><prefer><family>Inter</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
"""
WRAPPER = """#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
LD_LIBRARY_PATH={libraries} FONTCONFIG_FILE="$here/fonts.conf" \\
  exec "$here/tree/usr/lib/chromium/chromium-headless-shell" "$@"
"""


def find() -> Path:
    """The program. Nothing is installed into the system."""
    for name in SYSTEM:
        found = shutil.which(name)
        # A snap sees no temporary folder of ours, and so no profile.
        if found and "/snap/" not in str(Path(found).resolve()):
            return Path(found)
    return Slot("chromium", debian.release()).fill(_unpack, DURATION)


def _unpack(folder: Path) -> None:
    libraries = debian.unpack(folder, PACKAGES, "Chromium", REMEDY)
    # The folder gets its final name later: nothing may hold the present one.
    relative = libraries.replace(str(folder), "$here")
    program = folder / "chromium"
    program.write_text(WRAPPER.format(libraries=f'"{relative}"'))
    program.chmod(0o755)
    (folder / "fonts.conf").write_text(FONTS)
    words = [program, "--headless", "--no-sandbox", "--version"]
    tried = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    if "Chrom" not in tried.stdout:
        raise SetupError(
            f"The Chromium of {debian.release()} does not run here:\n"
            f"{tried.stderr.strip()[-500:]}\n{REMEDY}"
        )
