"""The library and others on the same work: `python -m benchmarks`, with `--gpu` on a GPU.

Imports go one way, from left to right:

    works -> data -> internals -> contenders -> worker -> processes -> race -> limits -> goals -> results
    -> report -> picture -> gpu_tests -> machine -> run -> cli

Each contender runs one work in a process of its own. Its losses are compared with a float64 reference
before it is timed, then all contenders are timed in interleaved rounds. If one part fails or hangs, only
its own result is missing.
"""
