"""The contract that a plugin fulfils, discovery of plugins, device names, and the reference device."""
