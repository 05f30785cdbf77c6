"""What ships for tests of programs that use pluggrad, and of devices: gradcheck."""
from pluggrad.testing.gradcheck import gradcheck

__all__ = ["gradcheck"]
