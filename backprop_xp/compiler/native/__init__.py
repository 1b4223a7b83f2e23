"""Programs as machine code: LLVM IR generated from the fused kernels, compiled by llvmlite.

    function      one function being written: registers, loops, memory
    math          exp, log, expm1, log1p and tanh from polynomials
    operations    one operation of a program on registers
    layouts       where each value is stored: memory, offset, strides
    elementwise   kernels of elementwise operations, and copies
    rows          kernels that run row by row, with one row in each lane
    products      matrix products
    reductions    sums and the other kernels of a single operation
    module        the kernels, a step and a scan as one module
    machine       the processor, the compiler, its cache on disk, the BLAS that NumPy has loaded
    bound         a module bound to arrays

Nothing is relaxed ("fast math"). Arithmetic rounds as NumPy's does, except that w ± a b in place is rounded
once where the processor has fused multiply-add; functions such as exp may differ in the last bits. Each
element of a product computed here is one chain of multiplications and additions in the order of k,
whatever the batch; large products are left to BLAS.
"""
