"""Rewards for maths with known answers: `math_verify`, `gsm8k`, `boxed` and `countdown`."""
