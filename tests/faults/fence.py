"""Decodes mutated frames that lie flush against memory that can't be read: a kernel's read beyond its buffer ends the process.

``python -m tests.faults.fence after|before PAYLOADS SEED``; ``trespass-after`` and ``trespass-before`` read one byte beyond, as a proof.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

import numpy as np

from ingest.formats import hsms
from tests.faults.test_fuzz import decode_hsms, mutated

ROOM = 1 << 20
FRAMES = 4
PAGE = mmap.PAGESIZE
PROT_NONE = 0


class Fence:
    """ROOM bytes between two pages that can't be read."""

    def __init__(self, *, after: bool) -> None:
        self._after = after
        self.arrays = 0
        self._memory = mmap.mmap(-1, ROOM + 2 * PAGE)
        self._whole = np.frombuffer(self._memory, np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        for offset in (0, PAGE + ROOM):
            if libc.mprotect(ctypes.c_void_p(self._whole.ctypes.data + offset), ctypes.c_size_t(PAGE), PROT_NONE):
                raise OSError(ctypes.get_errno(), "mprotect")

    def array(self, data: bytes | bytearray | memoryview) -> hsms.Bytes:
        """Return ``data`` as the decoder's own function does, its last byte (or its first one) at the fence."""
        begin = PAGE + (ROOM - len(data) if self._after else 0)
        self.arrays += 1
        place = self._whole[begin : begin + len(data)]
        place[:] = np.frombuffer(data, np.uint8)
        place = place.view()
        place.flags.writeable = False
        return place

    def trespass(self) -> int:
        """Read the byte beyond."""
        return int(self._whole[PAGE + ROOM if self._after else PAGE - 1])


def main() -> None:
    """Decode, or trespass."""
    what, payloads, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    fence = Fence(after=what.endswith("after"))
    if what.startswith("trespass"):
        fence.trespass()
    else:
        hsms._array = fence.array
        rejected = sum(decode_hsms(mutated(seed + i, FRAMES)[0], seed + i) for i in range(payloads))
        print({"spans rejected": rejected, "arrays at the fence": fence.arrays})


if __name__ == "__main__":
    main()
