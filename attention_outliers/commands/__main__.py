"""`python -m commands`: the same as `outliers`."""

from commands.main import main

main()
