"""The contract that a plugin fulfils, discovery of plugins, names of devices, and the built-in reference device."""
