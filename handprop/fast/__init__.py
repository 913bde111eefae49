"""The same mathematics in other shapes, each verified against the exact one and each with its bound."""
