"""Data: rows of inputs and targets, stored in arrays or generated on demand."""

from .source import Source as Source
from .source import Stored as Stored
from .teacher import Teacher as Teacher
