"""All that the benchmarks use of the library's internals: to be changed when those are renamed."""

from typing import Any

from backprop_xp.compiler.cuda import graph


def set_steps_of_a_graph(steps: int) -> None:
    """Set how many steps of a scan make one CUDA graph."""
    graph.UPDATES = steps


def graph_bytes(compiled: Any) -> int:
    """Bytes of the GPU's memory that the graphs of a compiled step hold."""
    return sum(stream.pool.total_bytes() for stream in compiled.streams.values())
