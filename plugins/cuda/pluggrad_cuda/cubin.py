"""What the header of a CUBIN tells: for which GPUs it is, and which toolkit made it."""
from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

_ELF: Final = b"\x7fELF\x02\x01"  # 64 bits, little-endian
_MACHINE: Final = 190  # EM_CUDA
_AT_ABI, _AT_MACHINE, _AT_FLAGS = 8, 18, 48
# where the flags keep the number of the architecture, by the version of the ABI
_ARCHITECTURE_SHIFT: Final = {7: 0, 8: 8}
_RELEASE: Final = re.compile(rb"Cuda compilation tools, release (\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Cubin:
    """`capability`: compute capability, major and minor; `toolkit`: the CUDA version, (0, 0) if untold."""

    capability: tuple[int, int]
    toolkit: tuple[int, int]

    @classmethod
    def read(cls, image: bytes) -> Cubin | None:
        """The header of `image`; None if it is no CUBIN."""
        if len(image) < 64 or not image.startswith(_ELF):
            return None
        shift = _ARCHITECTURE_SHIFT.get(image[_AT_ABI])
        if shift is None or struct.unpack_from("<H", image, _AT_MACHINE)[0] != _MACHINE:
            return None
        number = struct.unpack_from("<I", image, _AT_FLAGS)[0] >> shift & 0xFF
        release = _RELEASE.search(image)
        toolkit = (int(release[1]), int(release[2])) if release else (0, 0)
        return cls(divmod(number, 10), toolkit)

    @property
    def architecture(self) -> str:
        """As a compiler is told, such as sm_80."""
        return f"sm_{self.capability[0]}{self.capability[1]}"

    def runs_on(self, capability: tuple[int, int]) -> bool:
        """Whether a GPU can take it: of the same major version and no smaller minor one."""
        return self.capability[0] == capability[0] and self.capability[1] <= capability[1]
