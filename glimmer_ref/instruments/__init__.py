"""Instruments that observe the operations of a run. The functions of the model do not depend on them."""

from .dropout import Dropout
from .mac_counter import MacCounter
from .profiler import Profiler
from .tape import Tape
from .trace import Trace

__all__ = ["Dropout", "MacCounter", "Profiler", "Tape", "Trace"]
