"""`python -m attention_outliers`: the same as `outliers`."""

from attention_outliers.commands.main import main

main()
