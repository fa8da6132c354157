"""A language model as judge, through any OpenAI-compatible endpoint. The parts it adds are in `registration`."""
