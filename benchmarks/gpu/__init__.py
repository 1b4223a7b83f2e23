"""What the library and others do on one GPU: `python -m benchmarks --gpu`.

driver -> works -> data -> process -> probes, checks, race -> goals -> report -> run. Whatever touches the
GPU does so in a process of its own that is ended when its time is spent, and the JSON is written after
every part, so a part that fails or hangs costs its own result alone.
"""
