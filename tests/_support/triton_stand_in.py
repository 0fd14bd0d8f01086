"""Triton kernels without a GPU: interpreted, and compiled for devices that are not here."""

import os
import subprocess
import sys


def interpreted(code):
    """The output of code whose Triton kernels Triton's interpreter runs."""
    paths = {"PYTHONPATH": os.pathsep.join(sys.path), "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | paths,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def compiled_everywhere(kernel, kinds, constants, capabilities, **options):
    """What a kernel becomes on such devices; arguments are i32 unless `kinds` says."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {name: kinds.get(name, "i32") for name in kernel.arg_names}
    signature |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    found = []
    for capability in capabilities:
        target = GPUTarget("cuda", capability, 32)
        found.append(triton.compile(source, target=target, options=options or None))
        assert found[-1].asm["cubin"]
    return found
