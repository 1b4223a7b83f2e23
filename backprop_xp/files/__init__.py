"""Files: models in safetensors, and run directories, from which a stopped training resumes."""

from .model import load as load
from .model import save as save
from .run import RunDir as RunDir
