"""A device of pluggrad that hands products of matrices to NumPy's BLAS."""
