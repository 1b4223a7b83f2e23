"""`python -m backprop_xp` is the command `backprop-xp`."""

from .cli import main

raise SystemExit(main())
