"""All that the benchmarks use of the library's internals: to be changed when those are renamed."""

from typing import Any

from backprop_xp.compiler.cuda import cublaslt, graph, products, row_kernel


def set_steps_of_a_graph(steps: int) -> None:
    """Set how many steps of a scan make one CUDA graph."""
    graph.UPDATES = steps


def graph_bytes(compiled: Any) -> int:
    """Bytes of the GPU's memory that the graphs of a compiled step hold."""
    return sum(stream.pool.total_bytes() for stream in compiled.streams.values())


def without_epilogues() -> None:
    """Run what would go with a product as kernels of its own."""
    products.Products.matmul_with_epilogue = lambda *_: False  # type: ignore[method-assign]


def time_algorithms() -> None:
    """Take the fastest of the algorithms that cuBLASLt offers for a product, not its first."""
    products.TIMED = True


def unguarded_products(cupy: Any, precision: str) -> Any:
    """Products that take vectors of any alignment, to see what cuBLASLt makes of them."""
    products.VECTOR_BYTES = 4
    return products.Products(cupy, precision)


def stand_in(fake: Any) -> None:
    """Take the tests' stand-in for cuBLASLt and for row kernels."""
    library = fake.Lt(strict=False)
    cublaslt.loaded = lambda: library
    row_kernel.compiled = fake.rows
