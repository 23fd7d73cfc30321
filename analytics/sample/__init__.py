"""A believable sample organisation from a seed, written as feeds."""
