"""Tensors below the descent: rows and their layout, norms, random draws, the device."""
