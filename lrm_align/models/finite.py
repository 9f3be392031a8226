"""Whether an array of floating-point numbers holds NaN or infinity: at the speed of memory, without a copy."""

from collections.abc import Collection

import ml_dtypes
import numpy as np

from lrm_align.untrusted import named

# Bits of infinity. Read as integers, NaNs and infinities of the sign bit 0 are the largest signed numbers, those of the
# sign bit 1 the largest unsigned ones.
_INFINITY = {
    np.dtype(np.float32): (np.int32, 0x7F80_0000),
    np.dtype(np.float16): (np.int16, 0x7C00),
    np.dtype(ml_dtypes.bfloat16): (np.int16, 0x7F80),
}


def is_finite(array: np.ndarray) -> bool:
    """Whether every number of a contiguous array of floating-point numbers is finite.

    NumPy's own isfinite makes a mask, and reads numbers of 16 bits one by one.

    >>> is_finite(np.float32([1.0, -3e38])), is_finite(np.float32([1.0, -np.inf])), is_finite(np.float32([]))
    (True, False, True)
    """
    if array.size == 0:
        return True
    if array.dtype not in _INFINITY:
        return bool(np.isfinite(array).all())
    signed, infinity = _INFINITY[array.dtype]
    bits = array.reshape(-1).view(signed)
    sign = 1 << (8 * bits.itemsize - 1)
    return bool(bits.max() < infinity and bits.view(f"u{bits.itemsize}").max() < sign + infinity)


def complaint(names: Collection[str]) -> str:
    """What to say of tensors that are not finite.

    >>> complaint(["lm_head.weight"])
    '1 tensor with NaN or infinite values: lm_head.weight; what the model computes from such is noise'
    """
    first = ", ".join(named(name) for name in list(names)[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    count = f"{len(names)} tensor{'s' if len(names) > 1 else ''}"
    return f"{count} with NaN or infinite values: {first}{more}; what the model computes from such is noise"
