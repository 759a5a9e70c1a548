"""Parts of somebody else's package, one file each; entry points name them (see the dist-info folder beside)."""
