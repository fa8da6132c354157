"""What a completion is worth: parts, each a named reward, summed by weight."""
