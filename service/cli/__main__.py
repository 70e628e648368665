"""`python -m service.cli` is `cdm`."""

from service.cli import main

main()
