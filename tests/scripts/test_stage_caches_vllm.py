"""Kernel caches with a vLLM that compiles: what they save, and that it never dies of them."""

from startup import caches


def first_start(vllm):
    """Serve, save, and be gone: what is left for the next machine lies in the bucket."""
    vllm.serve()
    assert "Cache the graph(s) for compile range" in vllm.log
    saved = vllm.run("70-save.sh")
    assert saved.returncode == 0, saved.stderr
    vllm.end()
    folder = vllm.machine.root / "var/cache/mayfly-vllm"
    folder.rename(folder.with_name("of-another-machine"))


def test_second_start_compiles_nothing_when_the_first_has_saved_its_kernels(vllm):
    """115 s of a start, measured on an H100 with the real one."""
    first_start(vllm)

    restored = vllm.run("35-caches.sh")
    vllm.serve()

    assert restored.returncode == 0, restored.stderr
    assert "from the cache, took" in vllm.log


def test_start_goes_on_without_them_when_vllm_dies_of_its_kernel_caches(vllm):
    """Sound by their digest, of no use to this machine: known only when they are tried."""
    first_start(vllm)
    assert vllm.run("35-caches.sh").returncode == 0
    for kernel in (vllm.machine.root / "var/cache/mayfly-vllm").rglob("kernel.cubin"):
        kernel.write_text('{"gpu": "of another kind"}\n')

    result = vllm.run("50-serve.sh")

    assert result.returncode == 0, result.stderr
    assert "starts again without the kernel caches of gs://c/kernels/e1/" in result.stderr
    assert "no kernel image is available for execution" in result.stderr
    assert "Cache the graph(s) for compile range" in vllm.log
    assert not (vllm.machine.root / "run/mayfly/kernel-caches").exists()

    assert vllm.run("70-save.sh").returncode == 0  # for the next start, those that this one made

    bad = vllm.machine.read("run/mayfly/bad-caches").strip()
    assert bad.endswith("/1")
    assert vllm.machine.google.read(f"{bad[:-1]}2/manifest.json")


def test_start_fails_at_once_when_its_command_line_is_wrong_and_there_are_caches(vllm):
    """Another try would cost half a minute and say the same."""
    first_start(vllm)
    assert vllm.run("35-caches.sh").returncode == 0
    vllm.environment["MAYFLY_SERVE_FLAGS"] = '["--no-such-flag"]'

    result = vllm.run("50-serve.sh")

    assert result.returncode == 1
    assert "starts again" not in result.stderr
    assert "unrecognized arguments: --no-such-flag" in vllm.machine.why("50-serve")
    assert list(caches.files_of(vllm.machine.root / "var/cache/mayfly-vllm"))
