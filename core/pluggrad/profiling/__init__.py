"""Where time goes: kernels, copies and compilation, as a table and as a trace."""
from pluggrad.profiling.recording import Profile, follow_setting, profile
from pluggrad.profiling.table import KernelTotal

__all__ = ["KernelTotal", "Profile", "follow_setting", "profile"]
