"""What the process asks of its C library."""

import platform
import subprocess
import sys

import pytest
from conftest import ROOT

PROGRAM = """
import resource, sys, threading
from jaxgan.devices import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

def fill():
    b"x" * (1 << 28)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=fill)
    thread.start()
    thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_a_large_block_is_fetched_from_the_kernel_once():
    def second_time(mode):
        command = [sys.executable, "-c", PROGRAM, mode]
        return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)

    assert second_time("leave") > 100  # else there is nothing to mend
    assert second_time("keep") < 50
