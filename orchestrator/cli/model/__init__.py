"""``benchfarm model …``"""
