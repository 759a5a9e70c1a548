"""The `outliers` command line: one subcommand a file, each a few lines over a function of the packages."""
