"""All that the benchmarks take from inside of the library; whoever renames there looks here."""

from typing import Any

from backprop_xp.compiler.cuda import graph


def set_steps_of_a_graph(steps: int) -> None:
    """So many steps of a scan become one CUDA graph."""
    graph.UPDATES = steps


def graph_bytes(compiled: Any) -> int:
    """Memory of the GPU that the graphs of a compiled step hold."""
    return sum(stream.pool.total_bytes() for stream in compiled.streams.values())
