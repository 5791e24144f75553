"""Networks that learn the score."""
