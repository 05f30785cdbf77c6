"""Does a device keep its contract? `python -m pluggrad conformance DEVICE` runs these tests on it.

A test is a function that takes a `Subject` (the device) and fails by raising; `@conformance` declares its
level, its cases, and which capabilities it needs. Modules in the packages `l0` to `l4` are found by
`collect`. Nothing here names a device: what is tested follows from what the device declares.
"""
