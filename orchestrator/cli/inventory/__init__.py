"""``benchfarm inventory …``"""
