"""python -m glimmer_ref is glimmer-ref."""

import sys

from .cli import main

sys.exit(main())
