"""One float64 bit pattern stands for NULL (no number was sent); every other NaN is a NaN that was sent.

Decoders write ``NULL`` where no number was sent and ``CANONICAL_NAN`` for every NaN that was, so equality of content is
equality of bits, and no second mask array travels with the values.
"""

from __future__ import annotations

import numpy as np

NULL_BITS = np.int64(0x7FF8_0000_4E55_4C4C)
"""int64 view of NULL: a quiet NaN whose payload spells ``NULL``."""

NAN_BITS = np.int64(0x7FF8_0000_0000_0000)
"""int64 view of the canonical NaN."""

NULL = np.array([NULL_BITS], dtype=np.int64).view(np.float64)[0]
