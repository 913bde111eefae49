"""The proof over finite fields."""
