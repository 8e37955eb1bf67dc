"""Instruments: instruments to the operations, which the model itself knows nothing of."""

from .dropout import Dropout
from .mac_counter import MacCounter
from .profiler import Profiler
from .tape import Tape
from .trace import Trace

__all__ = ["Dropout", "MacCounter", "Profiler", "Tape", "Trace"]
