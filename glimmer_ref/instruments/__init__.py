"""Instruments: listeners to the operations, which the model itself knows nothing of."""

from .dropout import Dropout
from .mac_counter import Count
from .profiler import Clock
from .tape import Tape
from .trace import Trace

__all__ = ["Clock", "Count", "Dropout", "Tape", "Trace"]
