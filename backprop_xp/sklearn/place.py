"""The library and device of arrays: those of X are used for everything that is fitted."""

from typing import Any

from sklearn import get_config

from .. import backends
from ..arrays import Array
from ..backends import Backend
from ..errors import BackpropError

HOST = backends.get("numpy").xp


def namespace(a: Any) -> Any:
    """The namespace of an array; NumPy's, too, for its arrays of text and of objects."""
    return HOST if isinstance(a, HOST.ndarray) else backends.of(a).xp


def floats(a: Array) -> Array:
    """An array, or a sparse matrix, as floats: float32 and float64 stay, all other dtypes become float64.

    So bytes (uint8) are numbers from 0 to 255, as everywhere in scikit-learn; without this, a net would read
    them as x / 255.
    """
    if hasattr(a, "tocsr"):
        return a if a.dtype in (HOST.float32, HOST.float64) else a.astype("float64")
    to = backends.of(a)
    kept = a.dtype in (to.xp.float32, to.xp.float64)
    return a if kept else to.xp.astype(a, to.dtype("float64"))


def moved(a: Any, like: Array, dtype: Any = None) -> Array:
    """An array in the library and on the device of `like`, with its dtype or the one given."""
    to, dtype = backends.of(like), like.dtype if dtype is None else dtype
    device = to.device_of(like)
    if backends.of(a) is to and to.device_of(a) == device:
        return a if a.dtype == dtype else to.xp.astype(a, dtype)
    return to.asarray(backends.host(a), dtype, device)


def rows(a: Any, index: Any) -> Any:
    """The rows of an array whose numbers are in a NumPy array."""
    if isinstance(a, HOST.ndarray):
        return a[index]
    to = backends.of(a)
    return to.xp.take(a, to.asarray(index, to.xp.int64, to.device_of(a)), axis=0)


def check_same_place(X: Any, like: Array, method: str) -> None:
    """Check that X is in the library and on the device of the weights, if `array_api_dispatch` is on.

    Args:
        X: inputs, an array or something that scikit-learn makes a NumPy array of.
        like: the weights.
        method: the estimator's class and method, for the message.

    Raises:
        ValueError: it is not.
    """
    if not get_config()["array_api_dispatch"]:
        return
    to, there = backends.of(like), backend_of(X)
    if to is there and (to.name == "numpy" or to.device_of(X) == to.device_of(like)):
        return
    msg = (
        f"Inputs passed to {method}() must use the same namespace and the same device as those passed to "
        f"fit(): {_told(to, like)}, got {_told(there, X)}"
    )
    raise ValueError(msg)


def backend_of(a: Any) -> Backend:
    """The backend of an array; NumPy's for everything that scikit-learn makes a NumPy array of."""
    try:
        return backends.of(a)
    except BackpropError:  # lists, frames, objects
        return backends.get("numpy")


def _told(to: Backend, a: Any) -> str:
    return to.name if to.name == "numpy" else f"{to.name} on {to.device_of(a)}"
