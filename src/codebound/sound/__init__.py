"""Sound as frames of integers: resampling, a lapped transform, companding and residual codebooks, without rounding
that depends on the machine."""
