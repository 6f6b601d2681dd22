"""Free memory stays with the process: the page faults of a tensor that is made again and again."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource
from runner.execution.memory import keep_memory
keep_memory()
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
c.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def touch():
    p = c.malloc(2**26)
    c.memset(p, 1, 2**26)
    c.free(p)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**environment) -> int:
    given = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    given |= {"PYTHONPATH": os.pathsep.join(sys.path)} | environment
    return int(subprocess.run([sys.executable, "-c", FAULTS], env=given, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_free_memory_is_kept_and_the_environment_goes_first():
    pages = 8 * 2**26 // os.sysconf("SC_PAGESIZE")
    assert faults() < pages / 100
    assert faults(MALLOC_MMAP_THRESHOLD_="1048576") > pages / 100
