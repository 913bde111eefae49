"""Rules with loops, positions counted in integers, gathers and scatters, unrolled iterations; in no other part."""
