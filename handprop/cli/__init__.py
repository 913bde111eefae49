"""The command ``handprop``."""
