"""The variant `cpu@c` of pluggrad's cpu device: kernels in C, compiled by the system's compiler."""
