"""What ships for tests of programs that use pluggrad, and of devices: gradcheck."""
