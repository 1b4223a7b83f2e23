"""Programs on the CPU: straight-line NumPy calls that write into preallocated buffers."""
