"""Data: rows of inputs and targets, stored or made on the fly, any slice of them."""

from .source import Source as Source
from .source import Stored as Stored
from .teacher import Teacher as Teacher
