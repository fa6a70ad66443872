"""Arrays in, arrays out: the numba kernels and the slow, obvious twins that judge them."""
