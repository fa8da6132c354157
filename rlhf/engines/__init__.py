"""Engines: what trains a role's model and what generates from it.

Only this package imports deepspeed, vllm and peft. Start with `torch_engine` (one process) and `micro_batched` (how a
global batch becomes one optimizer step); `deepspeed_engine` is the same over many processes, and
`transformers_rollout` generates. `settings` holds the options and imports no torch.

Shapes: `[B, T]` rows and tokens of a batch; `[R, N]` rows a network really runs over (`[1, N]` when packed);
`_N` a flat selection of tokens.
"""
