"""`python -m verifier` is `chainproof`."""

from .cli import main

main()
