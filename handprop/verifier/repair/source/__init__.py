"""The user's functions as text and trees."""
