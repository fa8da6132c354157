"""Checkable instruction following: the 25 instruction kinds of IFEval (Zhou et al. 2023, arXiv:2311.07911).

`rlhf_ifeval.kinds.read_instructions` reads the columns of the data, `rlhf_ifeval.verdicts.judge` says which
instructions a response follows; the reward `ifeval` and the grader `ifeval_helpful` are made of these two.
"""
