"""The structures and signatures that the plugin gives to the driver, beside those of cuda.h."""

from __future__ import annotations

import ctypes
import re
import sysconfig
from pathlib import Path

import pytest

from pluggrad_cuda import libcuda
from tests.plugins.cuda.double import library

HEADER = Path(sysconfig.get_paths()["purelib"], "nvidia", "cu13", "include", "cuda.h")
STRUCTURES = {libcuda.KernelNode: "CUDA_KERNEL_NODE_PARAMS_v2_st", libcuda.CopyNode: "CUDA_MEMCPY3D_st",
              libcuda.FillNode: "CUDA_MEMSET_NODE_PARAMS_st"}
# a parameter of C -> its size in bytes; whatever has a star is a pointer
SIZES = {"unsigned int": 4, "int": 4, "cuuint32_t": 4, "size_t": 8, "unsigned long long": 8, "CUdeviceptr": 8,
         "CUmemorytype": 4, "CUresult": 4, "CUfunction_attribute": 4} | dict.fromkeys(
             [f"CUtensorMap{kind}" for kind in ("DataType", "Interleave", "Swizzle", "L2promotion",
                                                "FloatOOBfill")], 4) | dict.fromkeys(
             ("CUmodule", "CUfunction", "CUgraph", "CUgraphNode", "CUgraphExec", "CUstream", "CUcontext",
              "CUkernel", "CUarray"), 8)


@pytest.fixture(scope="module")
def header() -> str:
    if not HEADER.exists():
        pytest.skip("needs the wheel nvidia-cuda-runtime")
    return HEADER.read_text()


def size(declaration: str) -> int:
    if "*" in declaration:
        return 8
    kind = re.sub(r"\bconst\b", "", declaration).strip()
    return SIZES[re.sub(r"\s+\w+$", "", kind) if kind not in SIZES else kind]


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: s.__name__)
def test_structures_have_the_members_of_the_header(header, structure):
    body = re.search(rf"typedef struct {STRUCTURES[structure]} {{(.*?)}}", header, re.DOTALL)[1]
    body = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)
    members = [member.strip() for member in body.split(";") if member.strip()]
    expected = [(re.search(r"(\w+)$", member)[1], size(member)) for member in members]
    assert [(name, ctypes.sizeof(kind)) for name, kind in structure._fields_] == expected


def parameters(header: str, name: str) -> list[str]:
    declared = re.search(rf"CUresult CUDAAPI {name}\(([^)]*)\);", header)
    assert declared, name
    return [parameter.strip() for parameter in declared[1].split(",")]


# the header gives these another name, that of the version it means
PLAIN = {"cuGraphInstantiateWithFlags": "cuGraphInstantiate"}


@pytest.mark.parametrize("name", libcuda._PROTOTYPES | libcuda._OPTIONAL)
def test_signatures_are_those_of_the_header(header, name):
    plain = PLAIN.get(name, name.removesuffix("_v2"))
    if plain != name:
        assert re.search(rf"#define {plain}\s+{name}\s", header), "the header means another version by now"
    else:
        assert not re.search(rf"#define {plain}\s+{plain}_v", header), "the header means a later version"
    expected = [size(parameter) for parameter in parameters(header, plain)]
    prototypes = libcuda._PROTOTYPES | libcuda._OPTIONAL
    assert [ctypes.sizeof(kind) for kind in prototypes[name]] == expected
    if name in library.SIGNATURES:  # and those that the double takes
        assert [ctypes.sizeof(library._TYPES[kind]) for kind in library.SIGNATURES[name].split()] == expected


def test_numbers_are_those_of_the_header(header):
    def number(name: str) -> int:
        return int(re.search(rf"\b{name}\s*=\s*(0x[0-9a-fA-F]+|\d+)", header)[1], 0)

    for name in ("OUT_OF_MEMORY", "DEINITIALIZED", "DEVICE_UNAVAILABLE", "NO_DEVICE", "NOT_FOUND", "UNKNOWN",
                 "PEER_ACCESS_ALREADY_ENABLED", "SYSTEM_DRIVER_MISMATCH"):
        assert getattr(libcuda, name) == number(f"CUDA_ERROR_{name}")
    for name in ("SHARED_SIZE_BYTES", "MAX_DYNAMIC_SHARED_SIZE_BYTES"):
        assert getattr(libcuda, name) == number(f"CU_FUNC_ATTRIBUTE_{name}")
    assert number("CU_MEMORYTYPE_DEVICE") == libcuda.DEVICE_MEMORY
    sticky = ("DEINITIALIZED", "ECC_UNCORRECTABLE", "NVLINK_UNCORRECTABLE", "CONTAINED", "ILLEGAL_ADDRESS",
              "LAUNCH_TIMEOUT", "LAUNCH_INCOMPATIBLE_TEXTURING", "CONTEXT_IS_DESTROYED", "ASSERT",
              "HARDWARE_STACK_ERROR", "ILLEGAL_INSTRUCTION", "MISALIGNED_ADDRESS", "INVALID_ADDRESS_SPACE",
              "INVALID_PC", "LAUNCH_FAILED", "TENSOR_MEMORY_LEAK", "UNKNOWN")
    assert {number(f"CUDA_ERROR_{name}") for name in sticky} == libcuda.STICKY


@pytest.mark.parametrize(("kind", "name", "value"), [
    ("DataType", "DATA_TYPE_UINT16", libcuda.MAP_OF_UINT16),
    ("Interleave", "INTERLEAVE_NONE", libcuda.NO_INTERLEAVE),
    ("Swizzle", "SWIZZLE_128B", libcuda.SWIZZLE_128B),
    ("L2promotion", "L2_PROMOTION_L2_256B", libcuda.PROMOTED_TO_256B),
    ("FloatOOBfill", "FLOAT_OOB_FILL_NONE", libcuda.FILLED_WITH_ZEROS)])
def test_modes_of_tensor_maps_are_those_of_the_header(header, kind, name, value):
    body = re.search(rf"^typedef enum CUtensorMap{kind}_enum {{(.*?)}}", header, re.DOTALL | re.MULTILINE)[1]
    assert re.findall(r"CU_TENSOR_MAP_\w+", body).index(f"CU_TENSOR_MAP_{name}") == value
