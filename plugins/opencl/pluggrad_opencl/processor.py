"""PoCL 3.0 on a processor that its LLVM does not know: tells it one to make code for.

That PoCL, the one that pip installs, takes the processor's name from LLVM 14, and its built-in functions by
the instructions that the processor has. Where the name is unknown ("generic") its own C front end refuses
every program; where it is one without AVX-512 while the functions use it (Zen 4 as "znver3"), LLVM dies on
wide vectors. The name is a string that PoCL keeps in the device; OpenCL has no call to change it, and this
PoCL no setting. Later releases need none of this.
"""
from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pluggrad.plugin_api import DeviceUnavailable

if TYPE_CHECKING:
    import pyopencl as cl

# names to give, and the instructions that code for them may use; PoCL holds on to the strings
_NAMES: Final = (
    (ctypes.create_string_buffer(b"skylake-avx512"),
     {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
    (ctypes.create_string_buffer(b"haswell"), {"avx2", "fma", "f16c", "bmi1", "bmi2", "movbe", "abm"}),
)
_WITH_AVX512: Final = ("skylake-avx512", "cascadelake", "cooperlake", "cannonlake", "icelake-client",
                       "icelake-server", "tigerlake", "rocketlake", "sapphirerapids")
_WORD: Final = ctypes.sizeof(ctypes.c_void_p)
_STRUCT_BYTES: Final = 4096  # more than PoCL's device structure; pages that are not mapped end the search


def name_processor(device: cl.Device) -> str:
    """The processor's name given to a PoCL 3.0 that has a wrong one, "" where there is no need.

    DeviceUnavailable where none of those it knows fits, or the device does not hold its name as expected.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return ""
    if device.platform.name != "Portable Computing Language" or "PoCL 3.0" not in device.platform.version:
        return ""
    known = device.version.strip().rpartition("-gnu-")[2]
    found = _instructions()
    name, needed = _NAMES[0]
    if known == "generic" and not needed <= found:
        name, needed = _NAMES[1]
    if known in _WITH_AVX512 or (known != "generic" and not needed <= found):
        return ""
    if not needed <= found or not _replace(device.int_ptr, known.encode() + b"\0", name):
        raise DeviceUnavailable(f"PoCL 3.0 makes no code for this processor, which it calls '{known}'",
                                hint="Install a later PoCL from your system's packages")
    return name.value.decode()


def _replace(structure: int, old: bytes, new: ctypes.Array[ctypes.c_char]) -> bool:
    """Let the word of the structure that points to the text `old` point to `new`; False if there is none."""
    mapped = _mapped()
    for address in range(structure, structure + _STRUCT_BYTES, _WORD):
        if not _readable(mapped, address, _WORD):
            return False
        word = ctypes.c_void_p.from_address(address)
        if word.value == ctypes.addressof(new):
            return True
        if word.value and _readable(mapped, word.value, len(old)) and (
                ctypes.string_at(word.value, len(old)) == old):
            word.value = ctypes.addressof(new)
            return True
    return False


def _instructions() -> set[str]:
    """The processor's instruction sets, as Linux names them."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()


def _mapped() -> list[range]:
    """The readable parts of this process's memory."""
    parts = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, rights = line.split()[:2]
        if rights.startswith("r"):
            start, end = place.split("-")
            parts.append(range(int(start, 16), int(end, 16)))
    return parts


def _readable(mapped: list[range], address: int, nbytes: int) -> bool:
    return any(address in part and address + nbytes - 1 in part for part in mapped)
