"""Methods on labeled data sets: shards that resume, exact counts, metrics and protocols."""
