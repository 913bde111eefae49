"""Networks, the derivation of their gradients by hand, and other forms of it."""
