"""Everything that the benchmarks use of the library's internals, in one place for when these change."""

from typing import Any

from backprop_xp.compiler.cuda import cublaslt, graph, products, row_kernel


def set_steps_of_a_graph(steps: int) -> None:
    """Set how many steps of a scan make one CUDA graph."""
    graph.UPDATES = steps


def graph_bytes(compiled: Any) -> int:
    """Bytes of the GPU's memory that the graphs of a compiled step hold."""
    return sum(stream.pool.total_bytes() for stream in compiled.streams.values())


def without_epilogues() -> None:
    """Run the epilogues of products as kernels of their own."""
    products.Products.matmul_with_epilogue = lambda *_: False  # type: ignore[method-assign]


def time_algorithms() -> None:
    """Use the fastest of the algorithms that cuBLASLt offers for a product, not the first."""
    products.TIMED = True


def unguarded_products(cupy: Any, precision: str) -> Any:
    """Products that pass vectors of any alignment to cuBLASLt, to check what it computes."""
    products.VECTOR_BYTES = 4
    return products.Products(cupy, precision)


def stand_in(fake: Any) -> None:
    """Use the tests' stand-in for cuBLASLt and for row kernels."""
    library = fake.Lt(strict=False)
    cublaslt.loaded = lambda: library
    row_kernel.compiled = fake.rows
