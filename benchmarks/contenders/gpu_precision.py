"""JAX's switch for the precision of products; by default it would take tf32 on a GPU."""

NAMES = {"float32": "float32", "tf32": "tensorfloat32", "bfloat16": "BF16_BF16_F32"}


def set_jax(precision: str) -> None:
    """Products of float32 are computed so."""
    import jax

    jax.config.update("jax_default_matmul_precision", NAMES[precision])
