"""The library and others on the same work: `python -m benchmarks`.

works -> data -> contenders -> worker -> engine -> goals -> results -> report -> picture -> cli. A contender
runs one work in a process of its own; the engine checks its losses against a float64 reference before it
times anything.
"""

from .cli import main as main
