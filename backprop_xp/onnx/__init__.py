"""ONNX: what a learner predicts as a graph that onnxruntime and others run.

`onnx` is imported when it is needed; `pip install "backprop-xp[onnx]"` installs it.
"""

from .export import to_onnx as to_onnx
