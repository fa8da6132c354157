"""Ray Serve: a policy behind an OpenAI-compatible endpoint, rewards and graders over HTTP, and a page to compare."""
