"""From scores to label maps: windows merged, scores refined, labels decoded."""
