"""Programs on the CPU: a straight line of NumPy calls into buffers that were allocated in advance."""
