"""The CPU device of pluggrad: kernels compiled in process by LLVM, run by a native thread team."""
