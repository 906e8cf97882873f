"""A unit's private /tmp hides the machine's files, but not the image's own trees below it."""

import subprocess
import sys

PROGRAM = """
import os, sys
sys.path[:0] = [{guest!r}, {machine!r}]
import confine, kernel
kernel.bind({image!r}, {shown!r})
confine.cover({tmp!r}, 0o1777)
print(sorted(os.listdir({tmp!r})), open({shown!r} + "/module.py").read())
try:
    open({shown!r} + "/new", "w")
except OSError as error:
    print(error.strerror)
"""


def test_private_tmp_keeps_the_environment_when_the_checkout_lies_below_it(tmp_path, project_root):
    """A clone under /tmp is what every newcomer tries; its interpreter must not vanish."""
    machine = project_root / "local/machine"
    image, tmp = tmp_path / "image", tmp_path / "tmp"
    shown = tmp / "x/environment"
    image.mkdir()
    shown.mkdir(parents=True)
    (image / "module.py").write_text("content")
    (tmp / "secret").touch()
    program = PROGRAM.format(
        guest=str(machine / "guest"),
        machine=str(machine),
        image=str(image),
        shown=str(shown),
        tmp=str(tmp),
    )

    done = subprocess.run(
        ["unshare", "-Urm", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['x'] content", "Read-only file system"]
