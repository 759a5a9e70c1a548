"""Tables of bad input with their right outcomes, and what runs them."""
