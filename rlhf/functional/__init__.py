"""Pure tensor maths of alignment: torch only, one topic per file, each function with its equation and its paper.

Shapes: `[B, T]` (rows, time) unless the name says otherwise: `scores_B` is `[B]`, `logits_NV` is `[N, V]`.

    B  rows (completions)      T  time (tokens)           N  tokens of a batch, flattened
    V  vocabulary              H  hidden size             K  ranked completions of one prompt

Entry `t` of a `[B, T]` tensor speaks of token `t` given the tokens before it (see `rlhf.types`). `mask` is a bool
`[B, T]`, True on the tokens the policy chose. What lies outside it may be anything, NaN included: it never leaks into
a result or a gradient, and results are zero there.

Losses come back per token (or per pair), not reduced. `aggregation` says how they are weighed, and by what global
count the sum is divided, once.

    masked             sums, means, variance and whitening over a mask
    logprobs           log-probabilities and entropy from hidden states, in chunks
    kl                 k1, k2, k3 estimators; the adaptive coefficient
    advantages         KL-shaped token rewards, GAE, discounted returns
    group_advantages   RLOO, GRPO, MaxRL: baselines from other samples of the same prompt
    length_penalty     a price on answers near the longest allowed length
    policy_loss        the clipped surrogate (PPO, GRPO, GSPO), CISPO, the plain policy gradient
    correction         importance weights where another engine sampled
    engine_gap         how far that engine is from the one that trains
    value_loss         clipped value regression, explained variance
    preference_loss    Bradley-Terry for pairs and K-way rankings, centring
    plackett_luce      the listwise loss of K-way rankings
    dpo_loss           DPO and its relatives: hinge (SLiC), IPO, cDPO, robust DPO
    kto_loss           KTO: completions judged one by one
    reference_free     SimPO's margin and ORPO's odds ratio
    distillation       forward, reverse and Jensen-Shannon divergence from a teacher, in chunks
    selection          the best of n, rejection sampling, and their KL
    pairing            the best and the worst of a prompt's samples
    ensemble           scores of several reward models as one
    lagrangian         reward under a limit on cost: the price and the advantages at it
    aggregation        token, sequence and prompt means as weights and a count
"""
