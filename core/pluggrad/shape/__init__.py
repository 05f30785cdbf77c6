"""Shapes and index functions: broadcasting, symbolic index arithmetic, movement ops as maps of indices."""
