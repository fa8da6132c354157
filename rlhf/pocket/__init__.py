"""The embedded world: a procedural assistant task of a few hundred words, with exact gold graders on the three axes."""
