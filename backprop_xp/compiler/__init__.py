"""The compiler: a step is recorded as a program, passes simplify it, a target runs it.

    recorder    runs a function on abstract arrays and writes its operations down
    ir          the program: numbered values and the operations between them
    simplify    common subexpressions, constant folding, dead code
    placement   where results are stored: state written back, parts of a vector in place, lifetimes
    fusion      which operations run together as one kernel; rowwise, those that go row by row
    memory      buffers, shared by values that do not live at the same time
    bound       what a state and held arguments are bound to
    cpu         NumPy calls into buffers, for libraries whose arrays are in the host's memory
    native      machine code for these, by LLVM, where llvmlite is installed
    cuda        fused kernels inside CUDA graphs
    jax, torch  what those libraries compile themselves

The targets share the passes and do not import each other, except that Torch uses the plans of `cpu`, and
these use machine code where there is some.
"""
