"""Files: models in safetensors, and the folders of runs that can be stopped at any moment."""

from .model import load as load
from .model import save as save
from .run import RunDir as RunDir
