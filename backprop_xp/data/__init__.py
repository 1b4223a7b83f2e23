"""Data: rows of inputs and targets, stored in arrays, read from elsewhere, or generated on demand."""

from .adapters import Rows as Rows
from .adapters import Sliced as Sliced
from .adapters import Sparse as Sparse
from .adapters import Stream as Stream
from .sets import Checkerboard as Checkerboard
from .sets import Friedman1 as Friedman1
from .sets import GaussianMixture as GaussianMixture
from .sets import HiggsShaped as HiggsShaped
from .sets import Parity as Parity
from .sets import Sinusoids as Sinusoids
from .sets import ThreeRows as ThreeRows
from .sets import TwoSpirals as TwoSpirals
from .source import Source as Source
from .source import Stored as Stored
from .tables import Frame as Frame
from .tables import Parquet as Parquet
from .teacher import HiddenManifold as HiddenManifold
from .teacher import Teacher as Teacher
