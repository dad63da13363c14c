"""``benchfarm device …``"""
