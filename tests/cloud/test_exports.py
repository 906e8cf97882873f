"""What the local cloud hands to a shell, and the wrappers on its PATH."""

import os
import subprocess

from local import exports


def wrapper_environment(tmp_path, **given):
    """Run a provider wrapper whose interpreter is `env`: it prints what the plugin would see."""
    exports.write_wrappers(tmp_path, plugins=True, defaults=exports.endpoints("http://127.0.0.1:1"))
    wrapper = tmp_path / "bin/pulumi-resource-gcp"
    lines = wrapper.read_text().splitlines()
    lines[-1] = "exec env"
    wrapper.write_text("\n".join(lines) + "\n")
    run = subprocess.run(
        [wrapper], env={"PATH": os.environ["PATH"], **given}, capture_output=True, text=True
    )
    return dict(line.split("=", 1) for line in run.stdout.splitlines() if "=" in line)


def test_wrapper_reaches_its_own_cloud_when_the_shell_took_only_some_exports(tmp_path):
    """Names with a digit are easily lost by a pattern; a plugin must not then look for Google."""
    seen = wrapper_environment(tmp_path)

    assert seen["GOOGLE_CLOUDFUNCTIONS2_CUSTOM_ENDPOINT"] == "http://127.0.0.1:1/functions/v2beta/"


def test_wrapper_leaves_an_endpoint_alone_when_the_shell_has_set_it(tmp_path):
    """The user's own word comes first."""
    mine = "http://127.0.0.1:2/compute/beta/"

    seen = wrapper_environment(tmp_path, GOOGLE_COMPUTE_CUSTOM_ENDPOINT=mine)

    assert seen["GOOGLE_COMPUTE_CUSTOM_ENDPOINT"] == mine


def test_exports_survive_a_shell_when_values_hold_its_signs(tmp_path):
    """A directory may be called anything; they are sourced as they are printed."""
    odd = 'a "b" `c` $HOME \\e'
    text = exports.shell({"A_B": odd, "PATH": f"{tmp_path}:$PATH"})

    seen = subprocess.run(
        ["bash", "-c", f'{text}\nprintf "%s\\n%s" "$A_B" "$PATH"'],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert seen == f"{odd}\n{tmp_path}:/usr/bin:/bin"


def test_wrapper_is_whole_when_its_folder_has_a_quote_in_its_name(tmp_path):
    """A folder may be called anything."""
    folder = tmp_path / "it's"
    exports.write_wrappers(folder, plugins=False)

    checked = subprocess.run(["sh", "-n", folder / "bin/gcloud"], capture_output=True, text=True)

    assert (checked.returncode, checked.stderr) == (0, "")
