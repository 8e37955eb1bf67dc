"""Instruments: listeners to the operations, which the model itself knows nothing of."""

from .clock import Clock
from .count import Count
from .dropout import Dropout
from .tape import Tape
from .trace import Trace

__all__ = ["Clock", "Count", "Dropout", "Tape", "Trace"]
